//! The load generator, under the name that scripts call.

fn main() {
    std::process::exit(redstart::bench::main());
}
