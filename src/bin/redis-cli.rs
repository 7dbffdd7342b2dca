//! The command line client, under the name that scripts call.

fn main() {
    std::process::exit(redstart::cli::main());
}
