//! The Redis protocol: requests in, replies out, and replies parsed again on a client's side.
pub mod argv;
pub mod command;
pub mod reply;
pub mod request;
pub mod value;
