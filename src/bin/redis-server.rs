//! The server, under the name that scripts call.

fn main() {
    std::process::exit(redstart::server::boot::main());
}
