//! The command line: `redis-server [file] [--directive value ...] [-]`.
//!
//! Options become lines of configuration, read after the file and standard input. That follows Redis to
//! the letter, since scripts lean on all of it: an option's values run up to the next `--`, unless the
//! option has none yet; `"--port 6380"` may be one argument; `--save` alone is `save ""`.

use crate::base::quoted::{quote_into, split_args};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// `-v`, `--version`
    Version,
    /// `-h`, `--help`
    Help,
    /// `--check-system`
    CheckSystem,
    /// `--test-memory`, with its only argument if it has just one.
    TestMemory(Option<Vec<u8>>),
    Serve(Start),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The configuration file as given.
    pub file: Option<Vec<u8>>,
    /// Read standard input after it.
    pub stdin: bool,
    /// Lines to read after that.
    pub options: Vec<u8>,
    /// Be a Sentinel.
    pub sentinel: bool,
    /// There were no arguments at all.
    pub bare: bool,
}

/// Reads a command line; `program` is what the program was called by, `args` come after it.
pub fn parse(program: &[u8], args: &[Vec<u8>]) -> CommandLine {
    let first = args.first().map_or(&b""[..], |arg| arg.as_slice());
    match first {
        b"-v" | b"--version" => return CommandLine::Version,
        b"-h" | b"--help" => return CommandLine::Help,
        b"--check-system" => return CommandLine::CheckSystem,
        b"--test-memory" => {
            let megabytes = (args.len() == 2).then(|| args[1].clone());
            return CommandLine::TestMemory(megabytes);
        }
        _ => {}
    }
    let called = program.rsplit(|b| *b == b'/').next().unwrap_or(program);
    let called_sentinel = called.windows(14).any(|w| w == b"redis-sentinel");
    let mut start = Start {
        sentinel: called_sentinel || args.iter().any(|arg| arg == b"--sentinel"),
        bare: args.is_empty(),
        ..Start::default()
    };
    let has_file = !args.is_empty() && !first.starts_with(b"-");
    if has_file {
        start.file = Some(first.to_vec());
    }
    read_options(&mut start, args, usize::from(has_file));
    CommandLine::Serve(start)
}

/// Turns the arguments from `from` on into lines.
fn read_options(start: &mut Start, args: &[Vec<u8>], from: usize) {
    // Whether the option before has a value, so that `--` begins another.
    let mut satisfied = true;
    let options = &mut start.options;
    for (at, arg) in args.iter().enumerate().skip(from) {
        let last = at + 1 == args.len();
        if arg == b"-" && (at == 0 || last) {
            start.stdin = true;
            continue;
        }
        if !(satisfied && arg.starts_with(b"--")) {
            quote_into(arg, options);
            options.push(b' ');
            satisfied = true;
            continue;
        }
        if !options.is_empty() {
            options.push(b'\n');
        }
        options.extend_from_slice(&arg[2..]);
        options.push(b' ');
        let words = split_args(arg).map_or(0, |words| words.len());
        let before_option = !last && args[at + 1].starts_with(b"--");
        let is = |name: &[u8]| arg.eq_ignore_ascii_case(name);
        satisfied = words != 1;
        if is(b"--save") && (before_option || last) {
            options.extend_from_slice(b"\"\"");
            satisfied = true;
        } else if is(b"--sentinel") && before_option {
            satisfied = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str]) -> Start {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        match parse(b"./redis-server", &args) {
            CommandLine::Serve(start) => start,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_become_lines() {
        let cases: &[(&[&str], &str)] = &[
            (&["--port", "6380"], "port \"6380\" "),
            (
                &["--port", "6380", "--hz", "5"],
                "port \"6380\" \nhz \"5\" ",
            ),
            (&["--port", "1", "2"], "port \"1\" \"2\" "),
            (
                &["--port", "--bla", "--hz", "5"],
                "port \"--bla\" \nhz \"5\" ",
            ),
            (&["--port", "--hz", "5"], "port \"--hz\" \"5\" "),
            (&["--port"], "port "),
            (&["--save"], "save \"\""),
            (&["--save", "--hz", "5"], "save \"\"\nhz \"5\" "),
            (&["--save", ""], "save \"\" "),
            (&["--save", "100", "100"], "save \"100\" \"100\" "),
            (
                &["--save", "900 1", "--hz", "5"],
                "save \"900 1\" \nhz \"5\" ",
            ),
            (&["--maxmemory 700mb", "--hz 5"], "maxmemory 700mb \nhz 5 "),
            (
                &["--proc-title-template", "--save", "--save", ""],
                "proc-title-template \"--save\" \nsave \"\" ",
            ),
            (&["--sentinel", "--port", "1"], "sentinel \nport \"1\" "),
            (&["--port", "6380", "-"], "port \"6380\" "),
            (&["-x"], "\"-x\" "),
        ];
        for (args, options) in cases {
            assert_eq!(
                String::from_utf8_lossy(&serve(args).options),
                *options,
                "{args:?}"
            );
        }
    }

    #[test]
    fn file_stdin_and_sentinel() {
        let start = serve(&["a.conf", "--port", "1", "-"]);
        assert_eq!(start.file.as_deref(), Some(&b"a.conf"[..]));
        assert!(start.stdin && !start.sentinel && !start.bare);
        assert!(serve(&["-"]).stdin);
        assert!(serve(&["-"]).file.is_none());
        assert!(!serve(&["--hz", "-", "--port", "1"]).stdin);
        assert!(serve(&["--sentinel"]).sentinel);
        assert!(serve(&[]).bare);
        let called = parse(b"/usr/bin/redis-sentinel", &[b"s.conf".to_vec()]);
        assert!(matches!(called, CommandLine::Serve(start) if start.sentinel));
    }

    #[test]
    fn first_words() {
        let parse = |args: &[&str]| {
            let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            parse(b"redis-server", &args)
        };
        assert_eq!(parse(&["-v"]), CommandLine::Version);
        assert_eq!(parse(&["--help"]), CommandLine::Help);
        assert_eq!(parse(&["--check-system"]), CommandLine::CheckSystem);
        assert_eq!(parse(&["--test-memory"]), CommandLine::TestMemory(None));
        assert_eq!(
            parse(&["--test-memory", "64"]),
            CommandLine::TestMemory(Some(b"64".to_vec()))
        );
    }
}
