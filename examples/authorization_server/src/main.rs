//! Only starts the program: it is a library so that tests can build it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    authorization_server::main()
}
