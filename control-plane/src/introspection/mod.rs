//! Asking identity providers about tokens that only they can read (RFC 7662), on behalf of proxies.
//!
//! Proxies know neither address nor client nor secret: they name a provider of the policy in force, and [`settings`] are
//! those that its documents gave. [`client`] asks one provider once; [`service`] says who may ask, how often, and counts.
//! Whatever is no answer is `unavailable`, and the proxy denies the request.

pub mod client;
pub mod service;
pub mod settings;
