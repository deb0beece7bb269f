"""The data room: samples on disk, prepared for training and evaluation.

    opening       a recipe's dataset, split, packed and ready to load: `open_dataset`
    splits        training and validation materials
    oversampling  some materials more often than others
    seeding       random generators that depend on their key alone
    layout/       the folder layout: which samples a folder holds, and what is wrong with it
    images/       pixels from image files and back
    checking/     every image decoded and every map judged; bad ones moved aside
    importing/    materials from downloaded texture sets
    pack/         images decoded once, in files that are mapped into memory
    batches/      samples as tensors, from the store of images to the network's input
    synthesis/    captures rendered from materials
    registration/ photos registered to the first one

Nothing is imported here, so that looking at a folder does not load torch.
"""
