//! The part of the command line that begins with `--cluster`.
//!
//! The words behind `--cluster`, up to the next option, are the subcommand and its arguments. (If there is only the
//! subcommand, its arguments may follow later, among the options.)

use super::super::number::{atof, atoi};
use super::super::out::{Stop, complain};
use super::super::usage;

/// What a MIGRATE may take.
const TIMEOUT_MS: i32 = 60_000;
/// Keys that one MIGRATE moves.
const PIPELINE: i32 = 10;
/// Percent that a node may be off.
const THRESHOLD: f32 = 2.0;

/// The options with their values.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The subcommand, if there is one.
    pub command: Option<Vec<u8>>,
    pub args: Vec<Vec<u8>>,
    pub yes: bool,
    pub only_masters: bool,
    pub only_replicas: bool,
    pub replicas: i32,
    pub master_id: Option<Vec<u8>>,
    pub from: Option<Vec<u8>>,
    pub to: Option<Vec<u8>>,
    pub from_user: Option<Vec<u8>>,
    pub from_password: Option<Vec<u8>>,
    pub from_askpass: bool,
    pub weights: Vec<Vec<u8>>,
    pub slots: i32,
    pub timeout_ms: i32,
    pub pipeline: i32,
    pub threshold: f32,
    pub simulate: bool,
    pub replace: bool,
    pub copy: bool,
    pub replica: bool,
    pub use_empty_masters: bool,
    pub search_owners: bool,
    pub fix_with_unreachable: bool,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            command: None,
            args: Vec::new(),
            yes: false,
            only_masters: false,
            only_replicas: false,
            replicas: 0,
            master_id: None,
            from: None,
            to: None,
            from_user: None,
            from_password: None,
            from_askpass: false,
            weights: Vec::new(),
            slots: 0,
            timeout_ms: TIMEOUT_MS,
            pipeline: PIPELINE,
            threshold: THRESHOLD,
            simulate: false,
            replace: false,
            copy: false,
            replica: false,
            use_empty_masters: false,
            search_owners: false,
            fix_with_unreachable: false,
        }
    }
}

/// The words up to the next option.
fn plain(words: &[Vec<u8>]) -> &[Vec<u8>] {
    let end = words.iter().position(|word| word.starts_with(b"-"));
    &words[..end.unwrap_or(words.len())]
}

impl ClusterOptions {
    /// Takes what `words` begins with. Gives how many of them that were, 0 if it is nothing of the cluster's.
    pub fn take(&mut self, words: &[Vec<u8>]) -> Result<usize, Stop> {
        let Some((first, rest)) = words.split_first() else {
            return Ok(0);
        };
        match (&first[..], rest.first()) {
            (b"--cluster", Some(command)) if self.command.is_none() => {
                self.command = Some(command.clone());
                self.args = plain(&rest[1..]).to_vec();
                Ok(2 + self.args.len())
            }
            (b"--cluster", _) => {
                usage::complain();
                Err(Stop(1))
            }
            (b"--cluster-weight", Some(_)) => self.take_weights(rest),
            (option, Some(value)) if self.take_value(option, value) => Ok(2),
            (option, _) if self.take_flag(option) => Ok(1),
            (option, _) if self.command.is_some() && !option.starts_with(b"-") => {
                if !self.args.is_empty() {
                    return Ok(1);
                }
                self.args = plain(words).to_vec();
                Ok(self.args.len().max(1))
            }
            _ => Ok(0),
        }
    }

    fn take_weights(&mut self, words: &[Vec<u8>]) -> Result<usize, Stop> {
        if !self.weights.is_empty() {
            complain!(
                "WARNING: you cannot use --cluster-weight more than once.\nYou can set more weights by adding them as a \
                 space-separated list, ie:\n--cluster-weight n1=w n2=w\n"
            );
            return Err(Stop(1));
        }
        let end = words
            .iter()
            .position(|w| w.starts_with(b"--") || !w.contains(&b'='));
        self.weights = words[..end.unwrap_or(words.len())].to_vec();
        Ok(1 + self.weights.len())
    }

    fn take_value(&mut self, option: &[u8], value: &[u8]) -> bool {
        let text = Some(value.to_vec());
        match option {
            b"--cluster-replicas" => self.replicas = atoi(value),
            b"--cluster-master-id" => self.master_id = text,
            b"--cluster-from" => self.from = text,
            b"--cluster-to" => self.to = text,
            b"--cluster-from-user" => self.from_user = text,
            b"--cluster-from-pass" => self.from_password = text,
            b"--cluster-slots" => self.slots = atoi(value),
            b"--cluster-timeout" => self.timeout_ms = atoi(value),
            b"--cluster-pipeline" => self.pipeline = atoi(value),
            b"--cluster-threshold" => self.threshold = atof(value) as f32,
            _ => return false,
        }
        true
    }

    fn take_flag(&mut self, option: &[u8]) -> bool {
        let flag = match option {
            b"--cluster-only-masters" => &mut self.only_masters,
            b"--cluster-only-replicas" => &mut self.only_replicas,
            b"--cluster-from-askpass" => &mut self.from_askpass,
            b"--cluster-yes" => &mut self.yes,
            b"--cluster-simulate" => &mut self.simulate,
            b"--cluster-replace" => &mut self.replace,
            b"--cluster-copy" => &mut self.copy,
            b"--cluster-slave" => &mut self.replica,
            b"--cluster-use-empty-masters" => &mut self.use_empty_masters,
            b"--cluster-search-multiple-owners" => &mut self.search_owners,
            b"--cluster-fix-with-unreachable-masters" => &mut self.fix_with_unreachable,
            _ => return false,
        };
        *flag = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> (ClusterOptions, usize) {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.into()).collect();
        let mut options = ClusterOptions::default();
        let mut at = 0;
        while at < words.len() {
            match options.take(&words[at..]).unwrap() {
                0 => break,
                used => at += used,
            }
        }
        (options, at)
    }

    #[test]
    fn the_subcommand_has_what_follows_it() {
        let (options, used) =
            parse("--cluster-yes --cluster create a:1 b:2 --cluster-replicas 1 c:3 -p");
        assert_eq!((options.yes, options.replicas, used), (true, 1, 8));
        assert_eq!(options.args, [b"a:1", b"b:2"]);
        // Its arguments may come later.
        let (options, used) = parse("--cluster check --cluster-search-multiple-owners a:1");
        assert_eq!(
            (options.args.len(), options.search_owners, used),
            (1, true, 4)
        );
        let (options, used) = parse("--cluster-weight a=1 b=0.5 --cluster-threshold 1.5 x");
        assert_eq!(
            (options.weights.len(), options.threshold, used),
            (2, 1.5, 5)
        );
    }

    #[test]
    fn what_is_wrong_ends_the_program() {
        for bad in [&["--cluster"][..], &["--cluster", "a", "--cluster", "b"]] {
            let words: Vec<Vec<u8>> = bad.iter().map(|w| w.as_bytes().to_vec()).collect();
            let mut options = ClusterOptions::default();
            let first = options.take(&words);
            let last = first.and_then(|used| options.take(&words[used..]));
            assert_eq!(last.err(), Some(Stop(1)), "{bad:?}");
        }
        assert_eq!(
            ClusterOptions::default().take(&[b"word".to_vec()]).unwrap(),
            0
        );
    }
}
