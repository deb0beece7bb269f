"""The data room turns samples on disk into batches for training and evaluation.

    opening       opens a recipe's dataset, split, packed and ready to load: `open_dataset`
    splits        chooses the materials for training and for validation
    oversampling  repeats the samples of some materials
    seeding       makes random generators that depend on their key alone
    layout/       lists the samples of a dataset's folder, and everything that is wrong with it
    decoding      decodes image files of every format, depth and colour profile
    images        reads photos and maps at the size that is needed, and writes them
    checking/     decodes every image, judges every map, and moves bad samples to a quarantine
    importing/    converts downloaded texture sets into materials
    pack/         keeps decoded images in files that are mapped into memory
    batches/      makes tensors of samples, from the store of images to the network's input
    synthesis/    renders captures of materials
    registration/ estimates cameras by registering photos to the first one

This module imports nothing, so that listing a folder does not load torch.
"""
