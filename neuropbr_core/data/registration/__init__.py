"""Registers photos of one material to the first: estimates the camera of each photo from the pictures alone.

The first photo is taken from straight above. Its centred square is the texture. Each other photo is matched to it by
features, or by a search over the ways to hold a phone. Dense refinement follows, on pictures from which the light is
removed. A photo that cannot be matched is refused; no camera is guessed.

    pictures   photos prepared for comparison
    features   a first homography from points that both photos show
    dense      a first homography by search, its refinement, and a measure of agreement
    register   the whole registration of one set of photos: `register_photos`
    folders    photos in folders: one folder of photos, or every sample of a dataset
    stored     cameras of a dataset's samples, estimated once and kept beside the photos

Nothing is imported here, so that OpenCV loads only where photos are registered.
"""
