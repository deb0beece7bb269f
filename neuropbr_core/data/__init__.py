"""The data room: layout on disk, image files, splits, augmentation, datasets, loaders and synthetic captures.

Nothing is imported here, so that looking at a folder does not load torch.

    layout          which samples a folder holds, and everything that is wrong with it
    findings        one thing that is wrong, and how bad it is
    checking        the same, with every image decoded and every map judged
    examination     one folder of it
    lookalikes      materials that are the same, or nearly
    quarantine      bad samples and materials moved aside, and back
    importing       materials from elsewhere: `_names`, `_sources` and `_maps` are its steps
    parallel        work on files in several processes
    images          pixels from files and back
    cameras_file    `input/cameras.json`
    splits          training and validation materials
    augmentation    windows, flips and quarter-turns that keep the truth
    jitter          errors of exposure, colour and alignment, as real captures have them
    registration    photos registered to the first: where each was taken from
    pack_folder     images decoded once, mapped into memory: where they lie; `pack_writing` writes them
    packing         which images a recipe packs, and whether it does
    stores          images by key, from a pack or decoded (`cache` keeps some)
    dataset         samples as tensors
    boxes           the part of each photo that a crop can show
    batch           what a loader yields, in memory that `buffers` lends
    loading         loaders whose order depends on seed and epoch alone
    prepare         a batch on the device, as the network and the losses want it
    procedural      procedural materials, as folders and to render; `procedural_sheet` pictures them
    synthesis       captures rendered from material folders
    opening         all of it for a recipe: `open_dataset`
"""
