//! The checker of RDB files, under the name that scripts call.

fn main() {
    std::process::exit(redstart::check::rdb::main());
}
