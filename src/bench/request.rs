//! A request, rendered once: what changes from one time to the next are the digits in its random places, and in a cluster
//! the tags of its keys.

use memchr::memmem;

use super::cluster::TAG;
use crate::base::rng::Rng;

const PLACE: &[u8] = b"__rand_int__";

/// The bytes of a pipeline of the same command, and where the random places are.
#[derive(Debug, Clone)]
pub struct Request {
    pub bytes: Vec<u8>,
    places: Vec<usize>,
    /// Where the tags of keys are, behind their braces.
    tags: Vec<usize>,
}

impl Request {
    /// The command `times` times. Its places are random only if `randomize`.
    pub fn new(command: &[u8], times: usize, randomize: bool) -> Request {
        let bytes = command.repeat(times);
        let places = match randomize {
            true => memmem::find_iter(&bytes, PLACE).collect(),
            false => Vec::new(),
        };
        Request {
            bytes,
            places,
            tags: Vec::new(),
        }
    }

    /// The same for a cluster: its keys have tags.
    pub fn with_tags(mut self) -> Request {
        self.tags = memmem::find_iter(&self.bytes, TAG)
            .map(|at| at + 1)
            .collect();
        self
    }

    /// Whether its keys have tags.
    pub fn has_tags(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Gives its keys a tag.
    pub fn put_tag(&mut self, tag: [u8; 3]) {
        for &at in &self.tags {
            self.bytes[at..at + tag.len()].copy_from_slice(&tag);
        }
    }

    /// Puts a random number below `range` into each place.
    pub fn randomize(&mut self, range: u32, rng: &mut Rng) {
        for &place in &self.places {
            let mut number = match range {
                0 => 0,
                range => rng.below(u64::from(range)),
            };
            for digit in self.bytes[place..place + PLACE.len()].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_each_command_gets_a_number() {
        let mut request = Request::new(b"SET k:__rand_int__ __rand_int__ ", 3, true);
        let mut rng = Rng::new(1);
        request.randomize(50, &mut rng);
        let text = String::from_utf8(request.bytes.clone()).unwrap();
        let numbers: Vec<u32> = text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|word| word.len() == 12)
            .map(|word| word.parse().unwrap())
            .collect();
        assert_eq!(numbers.len(), 6);
        assert!(numbers.iter().all(|n| *n < 50) && numbers.iter().any(|n| *n != numbers[0]));
        let mut request = Request::new(b"GET k:{tag}:x ", 2, false).with_tags();
        assert!(request.has_tags() && !Request::new(b"PING", 1, false).with_tags().has_tags());
        request.put_tag(*b"Qi}");
        assert_eq!(request.bytes, b"GET k:{Qi}}:x GET k:{Qi}}:x ");
        assert_eq!(
            Request::new(b"GET __rand_int__ ", 1, false).bytes,
            b"GET __rand_int__ "
        );
    }
}
