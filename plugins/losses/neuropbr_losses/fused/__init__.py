"""The reconstruction losses and the logged errors of maps, computed together in one pass over the maps.

`measures` lists what can be computed. `reference` computes it plainly, `tiles` with little time and memory by PyTorch's
operators, and `launching` by Triton's `kernels` on CUDA. `together` chooses among them, and combines the values into
losses.
"""
