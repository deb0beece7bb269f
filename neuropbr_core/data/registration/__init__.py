"""Photos of one material registered to the first: where each was taken from, found from the pictures alone.

The first photo is taken from straight above; its centred square is the texture frame. Each other one is matched to it
by features, or by a search over how a phone may be held, and refined densely on pictures in which the light plays no
part. What cannot be matched is refused, never guessed.

    pictures   photos as they are compared
    features   a start from points that both photos show
    dense      a start by search, refinement, and how much of the frame agrees in the end
    register   all of it for one set of photos: `register_photos`
    stored     cameras of a dataset's samples, estimated once and kept beside it

Nothing is imported here, so that OpenCV loads only where photos are registered.
"""
