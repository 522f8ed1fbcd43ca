"""Claims about finished runs, re-tested: one file each, found by its file.

What the paper or its model card says of senders that join, are swapped, or leave, and of noise on
the channel; `docs/claims.md` has what was measured.
"""
