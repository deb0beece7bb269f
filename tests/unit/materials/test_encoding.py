import pytest
import torch

from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, METALLIC, NORMAL, ROUGHNESS
from neuropbr_core.materials.encoding import decode_map, encode_map


def every_level(levels, dtype):
    return torch.arange(levels + 1, dtype=torch.int32).view(1, 1, -1).to(dtype)


@pytest.mark.parametrize(
    ("dtype", "levels"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.int32, 65535), (torch.int32, 255)]
)
def test_every_stored_value_survives_the_round_trip(dtype, levels):
    stored = every_level(levels, dtype)
    values = decode_map(ROUGHNESS, stored, levels)
    assert values.dtype == torch.float32
    assert (values.min().item(), values.max().item()) == (0.0, 1.0)
    assert torch.equal(encode_map(ROUGHNESS, values, levels).int(), stored.int())


@pytest.mark.parametrize(("dtype", "top"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_levels_follow_from_unsigned_types(dtype, top):
    assert decode_map(METALLIC, torch.tensor([[[top]]]).to(dtype)).item() == 1.0


def test_integers_without_a_meaning_are_refused():
    with pytest.raises(DataError, match=r"metallic: integers of type torch.int32 need `levels` \(255 or 65535\); none"):
        decode_map(METALLIC, torch.zeros(1, 2, 2, dtype=torch.int32))


def test_wrong_channels_are_refused():
    with pytest.raises(DataError, match=r"albedo: found 1 channels in shape \(1, 2, 2\); the map has 3"):
        decode_map(ALBEDO, torch.zeros(1, 2, 2, dtype=torch.uint8))
    with pytest.raises(DataError, match="normal: found 1 channels"):
        encode_map(NORMAL, torch.zeros(1, 2, 2))


def test_normals_decode_to_unit_vectors_and_back_within_one_level():
    vectors = torch.nn.functional.normalize(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    stored = encode_map(NORMAL, vectors)
    decoded = decode_map(NORMAL, stored)
    torch.testing.assert_close(decoded.norm(dim=1), torch.ones(4, 8, 8))
    assert (decoded - vectors).abs().max() < 2 / 255


def test_sixteen_bit_normals_are_finer():
    vectors = torch.nn.functional.normalize(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert (decode_map(NORMAL, encode_map(NORMAL, vectors, 65535), 65535) - vectors).abs().max() < 2 / 65535


@pytest.mark.parametrize("grey", [127, 128])
def test_a_normal_without_direction_faces_up(grey):
    stored = torch.full((3, 1, 1), grey, dtype=torch.uint8)
    assert decode_map(NORMAL, stored).flatten().tolist() == [0.0, 0.0, 1.0]


def test_encoding_clamps_and_rounds():
    values = torch.tensor([-0.5, 0.4999 / 255, 0.5001 / 255, 2.0]).view(1, 1, 4)
    encoded = encode_map(METALLIC, values)
    assert encoded.dtype == torch.uint8
    assert encoded.flatten().tolist() == [0, 0, 1, 255]
