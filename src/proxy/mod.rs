//! Layer 4: the path of a request, the only place where the layers meet.
