//! After a failed attempt: who is tried next, after which delay, or why nobody is.
