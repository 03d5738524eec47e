//! Fuzz targets: everything that reads what others wrote, under random damage.
//!
//! A target takes bytes. The bytes are choices: which seed to take, and how to damage it (see [`input`]), so that most
//! inputs get past the first line of a parser. A target does not only look for panics; each states what must hold
//! whatever comes in.
//!
//! | target | what must hold |
//! | --- | --- |
//! | [`token::tampered`] | no token but those that were signed is accepted, and no error quotes it |
//! | [`token::claims`] | what a signed token says is accepted only within the provider's rules |
//! | [`predicate::text`] | printed, encoded, simplified, evaluated: always the same predicate as a slow evaluator sees |
//! | [`request::datasette`], [`request::dreamfactory`], [`request::http`] | what is written upstream keeps the caller's rows and fields, and the response plan hides the rest |
//! | [`transform::json`] | the same at any chunking, and what a slow transformer makes of the whole document |
//! | [`bundle::bytes`] | a damaged bundle is refused, or decides without a panic |
//! | [`bundle::documents`] | whatever compiles can be put in force, and compiles to the same bytes in any order |

pub mod bundle;
pub mod input;
pub mod policy;
pub mod predicate;
pub mod request;
pub mod token;
pub mod transform;
