"""The packagers that ship pass the conformance suite of packagers."""

from neuropbr_core.testing import PackagerSuite


class TestPlain(PackagerSuite):
    use = "plain"


class TestGltf(PackagerSuite):
    use = "gltf"


class TestMaterialX(PackagerSuite):
    use = "materialx"
    option_sets = ({}, {"displacement": True})


class TestUsd(PackagerSuite):
    use = "usd"
    option_sets = ({}, {"crate": True})


class TestBlender(PackagerSuite):
    use = "blender"


class TestUnreal(PackagerSuite):
    use = "unreal"
    option_sets = ({}, {"content": "/Game/Scans"})


class TestUnity(PackagerSuite):
    use = "unity"
    option_sets = ({}, {"pipeline": "urp"})


class TestGodot(PackagerSuite):
    use = "godot"


class TestAmbientCG(PackagerSuite):
    use = "ambientcg"


class TestSubstance(PackagerSuite):
    use = "substance"
