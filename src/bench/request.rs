//! A request, rendered once: what changes from one time to the next are the digits in its random places.

use memchr::memmem;

use crate::base::rng::Rng;

const PLACE: &[u8] = b"__rand_int__";

/// The bytes of a pipeline of the same command, and where the random places are.
#[derive(Debug, Clone)]
pub struct Request {
    pub bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Request {
    /// The command `times` times. Its places are random only if `randomize`.
    pub fn new(command: &[u8], times: usize, randomize: bool) -> Request {
        let bytes = command.repeat(times);
        let places = match randomize {
            true => memmem::find_iter(&bytes, PLACE).collect(),
            false => Vec::new(),
        };
        Request { bytes, places }
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
        assert_eq!(
            Request::new(b"GET __rand_int__ ", 1, false).bytes,
            b"GET __rand_int__ "
        );
    }
}
