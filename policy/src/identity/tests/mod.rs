//! What must never authenticate, and what must: each attack by its name.

mod attacks;
mod demands;
mod fixture;
mod introspection;
mod presets;
mod principals;
