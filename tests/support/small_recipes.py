"""Settings that make each shipped recipe small enough to train in seconds."""

import json

SIZES = ["data.image_size=32", "data.output_size=32", "training.epochs=1", "training.batch_size=2"]
TEACHER = [
    "model.encoder.variant=resnet18",
    "model.encoder.pretrained=false",
    "model.fusion={dim: 32, heads: 2, depth: 1}",
    "model.decoder={channels: [16, 16, 16, 16], head_channels: 8}",
    "data.repeats=2",
]
# Encoders whose stem halves the image once have a doubling more.
FINER = [*TEACHER, "model.decoder={channels: [16, 16, 16, 16, 16], head_channels: 8}"]
GAN = ["losses.gan.layers=2", "losses.gan.width=8", "losses.gan.start_epoch=1"]
QUICK = ["data.synthesize=null", "data.crop_size=32", "data.repeats=1"]


def taught(*teacher: str) -> str:
    """The setting that makes a student's teacher small."""
    return f"teacher.overrides={json.dumps([*SIZES, *teacher])}"


STUDENT = [
    "model.encoder.variant=small",
    "model.encoder.pretrained=false",
    "data.repeats=2",
    taught(*TEACHER, *GAN),
]
SMALL = {
    "fast_iteration": [*FINER, *GAN],
    "flash_live": [
        "data.synthesize=null",
        "data.crop_size=16",
        'data.oversample={"*": 1}',
        "data.source.procedural=1",
        "data.source.texture_size=64",
        "data.source.visits=4",
        "data.source.light.drawn_environments=1",
    ],
    "flash_student": [
        "data.synthesize=null",
        "data.crop_size=32",
        'data.oversample={"*": 1}',
        "data.source.procedural=1",
        "data.source.texture_size=64",
        "data.source.visits=4",
        "data.source.light.drawn_environments=1",
    ],
    "high_quality": [*FINER, *GAN],
    "lightweight": TEACHER,
    "normal_focused": [*FINER, *GAN],
    "quick_test": [*TEACHER, *GAN],
    "quickstart": QUICK,
    "quickstart_student": [*QUICK, taught(*QUICK)],
    "student_convattn_1024": [*STUDENT, "model.fusion.channels=16"],
    "student_mobilenetv3_2048": [*STUDENT, "model.fusion={dim: 32, heads: 2}"],
    "student_mobilenetv3_512": [*STUDENT, "model.fusion={dim: 32, heads: 2}", "data.output_size=64"],
    "teacher_best": ["data.synthesize=null", "data.crop_size=16", 'data.oversample={"*": 1}'],
    "teacher_default": [*TEACHER, *GAN],
}
