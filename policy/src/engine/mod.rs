//! All steps in order: one verdict for one request.
