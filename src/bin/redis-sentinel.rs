//! Sentinel, under the name that scripts call: the server, which sees by that name what it is to be.

fn main() {
    std::process::exit(redstart::server::boot::main());
}
