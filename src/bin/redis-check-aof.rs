//! The checker of append only files, under the name that scripts call.

fn main() {
    std::process::exit(redstart::check::aof::main());
}
