"""An index behind HTTP: a page for people and a JSON API for programs (`hybridhash serve`).

One event loop answers; decoding and scanning run in pools of threads, the network in a thread of
its own (`work.encoding.EncoderThread`). Clients name rows, never paths. See docs/serve.md.
"""
