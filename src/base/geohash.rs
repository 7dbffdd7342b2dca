//! Geohash: places on Earth as numbers, such that numbers near each other are places near each other.
//!
//! # The hash
//!
//! Halve the range of longitudes again and again; which half the place lies in, 0 west or 1 east, is a bit. Do the same
//! with latitudes, 0 south or 1 north. With 26 bits of each, interleaved, longitude first, a place is a number of 52
//! bits, which a sorted set's score (a double) holds exactly:
//!
//! ```text
//! longitude  x25 . x24 . x23 . ... x0  .        +-------+-------+   Two bits divide the world like this,
//! latitude    . y25 . y24 . y23 ...  . y0       |  01   |  11   |   four bits divide each quarter in the
//! hash       x25y25x24y24x23y23    x0 y0        +-------+-------+   same way, and so on: a prefix of 2n
//!                                               |  00   |  10   |   bits names a cell, and all places in it
//! score 52 bits: a cell of .6 m by .3 m         +-------+-------+   are one range of scores.
//! ```
//!
//! Longitudes go from -180 to 180, latitudes from -85.05112878 to 85.05112878, where the Mercator projection of the web's
//! maps ends. The textual geohash of GEOHASH is the same idea over -90 to 90, five bits a letter.
//!
//! # The search
//!
//! A circle or a box is covered by the cell that its centre lies in and the eight around it, at the smallest size
//! whose nine cells cover it: nine ranges of scores at most, each place in them measured in turn.
//!
//! ```text
//! +----+----+----+     Cells that the shape cannot reach are left out. Near the poles cells get narrower,
//! |    | .--|-.  |     so that larger ones are taken there.
//! +----+/---+--\-+
//! |    |    |*  ||
//! +----+\---+--/-+     Distances are those on a sphere (haversine), good to .5 %.
//! |    | '--|-'  |
//! +----+----+----+
//! ```
//!
//! Results come in the order of the cells where nobody asks for another (and COUNT ... ANY stops at the first ones), so
//! which cells there are, and in which order, is as much a part of what clients see as the distances' digits.

use std::f64::consts::PI;

/// Longitudes that can be stored, degrees.
pub const LON_MAX: f64 = 180.0;
/// Latitudes that can be stored, degrees.
pub const LAT_MAX: f64 = 85.05112878;
/// Bits of each coordinate in a score.
pub const STEP_MAX: u32 = 26;

/// The quadratic mean of Earth's radii (WGS-84), metres.
const EARTH_RADIUS_M: f64 = 6372797.560856;
/// Half of Earth's circumference in the Mercator projection, metres.
const MERCATOR_MAX_M: f64 = 20037726.37;
const RADIANS: f64 = PI / 180.0;
const TWO_TO_63: f64 = (1u64 << 63) as f64;

/// Even bits: those of the latitude.
const LAT_BITS: u64 = 0x5555_5555_5555_5555;
/// Odd bits: those of the longitude.
const LON_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// A place, in degrees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Place {
    pub lon: f64,
    pub lat: f64,
}

impl Place {
    /// True if it can be stored.
    pub fn is_valid(self) -> bool {
        self.lon.abs() <= LON_MAX && self.lat.abs() <= LAT_MAX
    }

    /// The score that stands for a valid place.
    pub fn score(self) -> u64 {
        Cell::around(self, STEP_MAX, LAT_MAX).bits
    }

    /// The place that a score stands for. Any double is a place, as C's conversion to an integer makes it one.
    pub fn from_score(score: f64) -> Place {
        let cell = Cell {
            bits: c_u64(score),
            step: STEP_MAX,
        };
        let edges = cell.edges();
        Place {
            lon: ((edges.west + edges.east) / 2.0).clamp(-LON_MAX, LON_MAX),
            lat: ((edges.south + edges.north) / 2.0).clamp(-LAT_MAX, LAT_MAX),
        }
    }

    /// The textual geohash, 11 letters. 52 bits are ten letters and two bits; Redis has always written a `0` instead.
    pub fn text(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::around(self, STEP_MAX, 90.0).bits;
        std::array::from_fn(|i| match i {
            10 => b'0',
            _ => LETTERS[(bits >> (52 - (i + 1) * 5)) as usize & 31],
        })
    }

    /// The distance to another place, metres.
    pub fn distance(self, other: Place) -> f64 {
        let v = ((other.lon * RADIANS - self.lon * RADIANS) / 2.0).sin();
        if v == 0.0 {
            return lat_distance(self.lat, other.lat);
        }
        let (lat1, lat2) = (self.lat * RADIANS, other.lat * RADIANS);
        let u = ((lat2 - lat1) / 2.0).sin();
        let a = u * u + lat1.cos() * lat2.cos() * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }
}

/// The distance between two places on a meridian, metres.
fn lat_distance(lat1: f64, lat2: f64) -> f64 {
    EARTH_RADIUS_M * (lat2 * RADIANS - lat1 * RADIANS).abs()
}

/// A double as C's conversion to a 64-bit integer takes it on this kind of machine.
pub fn c_i64(value: f64) -> i64 {
    if (-TWO_TO_63..TWO_TO_63).contains(&value) {
        value as i64
    } else {
        i64::MIN
    }
}

/// The same for an unsigned one.
fn c_u64(value: f64) -> u64 {
    if value < TWO_TO_63 {
        c_i64(value) as u64
    } else {
        c_i64(value - TWO_TO_63) as u64 ^ 1 << 63
    }
}

// --- Cells -----------------------------------------------------------------------------------------------------

/// The bits of a number, each followed by a zero.
fn spread(x: u32) -> u64 {
    let x = u64::from(x);
    let x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    let x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let x = (x | x << 2) & 0x3333_3333_3333_3333;
    (x | x << 1) & LAT_BITS
}

/// Every other bit, put together.
fn gather(x: u64) -> u32 {
    let x = x & LAT_BITS;
    let x = (x | x >> 1) & 0x3333_3333_3333_3333;
    let x = (x | x >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// One of the 4^step cells that the world is divided into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    bits: u64,
    step: u32,
}

/// Where a cell ends, degrees.
struct Edges {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

impl Cell {
    /// The cell that a place lies in, latitudes going up to `lat_max`.
    fn around(place: Place, step: u32, lat_max: f64) -> Cell {
        let cells = (1u64 << step) as f64;
        let lat = (place.lat + lat_max) / (lat_max + lat_max) * cells;
        let lon = (place.lon + LON_MAX) / (LON_MAX + LON_MAX) * cells;
        Cell {
            bits: spread(lat as u32) | spread(lon as u32) << 1,
            step,
        }
    }

    fn edges(self) -> Edges {
        let cells = (1u64 << self.step) as f64;
        let (lat, lon) = (gather(self.bits), gather(self.bits >> 1));
        let at = |n: u32, max: f64| -max + f64::from(n) / cells * (max + max);
        Edges {
            west: at(lon, LON_MAX),
            east: at(lon.wrapping_add(1), LON_MAX),
            south: at(lat, LAT_MAX),
            north: at(lat.wrapping_add(1), LAT_MAX),
        }
    }

    /// The cell so many to the east and to the north (-1, 0 or 1), around the world.
    fn neighbour(self, east: i8, north: i8) -> Cell {
        let used = u64::MAX >> (64 - self.step * 2);
        // With the other coordinate's bits all set a carry runs through them, with all clear a borrow does.
        let moved = |own: u64, by: i8| {
            let (value, other) = (self.bits & own, !own & used);
            let moved = match by {
                0 => value,
                1 => value.wrapping_add(other + 1),
                _ => (value | other).wrapping_sub(other + 1),
            };
            moved & own & if by == 0 { u64::MAX } else { used }
        };
        Cell {
            bits: moved(LON_BITS, east) | moved(LAT_BITS, north),
            step: self.step,
        }
    }

    /// The scores of the places in it: from the first on, and below the second.
    fn scores(self) -> (f64, f64) {
        let shift = 52 - self.step * 2;
        (
            (self.bits << shift) as f64,
            ((self.bits + 1) << shift) as f64,
        )
    }
}

// --- Search ----------------------------------------------------------------------------------------------------

/// The form of a search area, in units.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shape {
    Circle { radius: f64 },
    Rectangle { width: f64, height: f64 },
}

/// Where to search.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Area {
    pub centre: Place,
    pub shape: Shape,
    /// Metres in a unit.
    pub unit_m: f64,
}

impl Area {
    /// The distance of a place from the centre in metres, if the place lies in the area.
    pub fn distance_within(&self, place: Place) -> Option<f64> {
        match self.shape {
            Shape::Circle { radius } => {
                let distance = self.centre.distance(place);
                // One that is no number is not farther.
                let beyond = distance > radius * self.unit_m;
                (!beyond).then_some(distance)
            }
            Shape::Rectangle { width, height } => {
                if lat_distance(place.lat, self.centre.lat) > height * self.unit_m / 2.0 {
                    return None;
                }
                let beside = Place {
                    lon: self.centre.lon,
                    lat: place.lat,
                };
                if place.distance(beside) > width * self.unit_m / 2.0 {
                    return None;
                }
                Some(self.centre.distance(place))
            }
        }
    }

    /// The edges of the area. Its width is taken where it is the widest, at the latitude nearest to a pole.
    fn bounds(&self) -> Edges {
        let (half_width, half_height) = match self.shape {
            Shape::Circle { radius } => (radius, radius),
            Shape::Rectangle { width, height } => (width / 2.0, height / 2.0),
        };
        let Place { lon, lat } = self.centre;
        let dlat = self.unit_m * half_height / EARTH_RADIUS_M / RADIANS;
        let polar = if lat < 0.0 { lat - dlat } else { lat + dlat };
        let dlon = self.unit_m * half_width / EARTH_RADIUS_M / (polar * RADIANS).cos() / RADIANS;
        Edges {
            west: lon - dlon,
            east: lon + dlon,
            south: lat - dlat,
            north: lat + dlat,
        }
    }

    /// The step whose nine cells should cover the area.
    fn estimated_step(&self) -> u32 {
        let reach = match self.shape {
            Shape::Circle { radius } => radius,
            Shape::Rectangle { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        };
        let mut reach_m = reach * self.unit_m;
        if reach_m == 0.0 {
            return STEP_MAX;
        }
        let mut step = 1i32;
        while reach_m < MERCATOR_MAX_M {
            reach_m *= 2.0;
            step += 1;
        }
        step -= 2;
        // Towards the poles cells are narrower.
        step -= match self.centre.lat.abs() {
            lat if lat > 80.0 => 2,
            lat if lat > 66.0 => 1,
            _ => 0,
        };
        step.clamp(1, STEP_MAX as i32) as u32
    }

    /// The ranges of scores (from, below) that cover the area, in the order in which they are searched.
    pub fn score_ranges(&self) -> impl Iterator<Item = (f64, f64)> {
        let bounds = self.bounds();
        let mut step = self.estimated_step();
        let mut cell = Cell::around(self.centre, step, LAT_MAX);
        // Near the edge of its cell an area may reach past the next cell.
        let too_small = cell.neighbour(0, 1).edges().north < bounds.north
            || cell.neighbour(0, -1).edges().south > bounds.south
            || cell.neighbour(1, 0).edges().east < bounds.east
            || cell.neighbour(-1, 0).edges().west > bounds.west;
        if too_small && step > 1 {
            step -= 1;
            cell = Cell::around(self.centre, step, LAT_MAX);
        }
        let edges = cell.edges();
        let reaches = move |east: i8, north: i8| {
            let beyond = |by: i8, low: bool, high: bool| by < 0 && low || by > 0 && high;
            step < 2
                || !(beyond(east, edges.west < bounds.west, edges.east > bounds.east)
                    || beyond(
                        north,
                        edges.south < bounds.south,
                        edges.north > bounds.north,
                    ))
        };
        const ORDER: [(i8, i8); 9] = [
            (0, 0),
            (0, 1),
            (0, -1),
            (1, 0),
            (-1, 0),
            (1, 1),
            (-1, 1),
            (1, -1),
            (-1, -1),
        ];
        // Where cells are so large that going either way leads to the same one, it is searched once.
        let mut last = None;
        ORDER.into_iter().filter_map(move |(east, north)| {
            let next = cell.neighbour(east, north);
            if !reaches(east, north) || last == Some(next) {
                return None;
            }
            if (east, north) != (0, 0) {
                last = Some(next);
            }
            Some(next.scores())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places() -> impl Strategy<Value = Place> {
        (-LON_MAX..=LON_MAX, -LAT_MAX..=LAT_MAX).prop_map(|(lon, lat)| Place { lon, lat })
    }

    proptest! {
        #[test]
        fn a_score_leads_back_to_the_place(place in places()) {
            let back = Place::from_score(place.score() as f64);
            prop_assert!(place.distance(back) < 1.0, "{place:?} {back:?}");
            prop_assert!(back.is_valid());
        }

        #[test]
        fn every_place_of_a_small_area_is_covered_once(
            centre in places(), reach_m in 1.0..200_000.0f64, angle in 0.0..2.0 * PI, part in 0.0..1.0f64,
        ) {
            // Across the date line and beyond the last latitude no search goes.
            prop_assume!(centre.lat.abs() < 75.0 && centre.lon.abs() < 170.0);
            let dlat = reach_m * part / EARTH_RADIUS_M / RADIANS * angle.sin();
            let dlon = reach_m * part / EARTH_RADIUS_M / RADIANS * angle.cos() / (centre.lat * RADIANS).cos();
            let place = Place { lon: centre.lon + dlon, lat: centre.lat + dlat };
            let score = place.score() as f64;
            let place = Place::from_score(score);
            let circle = Shape::Circle { radius: reach_m };
            let square = Shape::Rectangle { width: 2.0 * reach_m, height: 2.0 * reach_m };
            for shape in [circle, square] {
                let area = Area { centre, shape, unit_m: 1.0 };
                if area.distance_within(place).is_some() {
                    let hits = area.score_ranges().filter(|(from, below)| (*from..*below).contains(&score));
                    prop_assert_eq!(hits.count(), 1);
                }
            }
        }

        #[test]
        fn any_score_is_a_place(score in any::<f64>()) {
            prop_assert!(Place::from_score(score).is_valid());
        }
    }

    #[test]
    fn places_known_to_everybody() {
        let palermo = Place {
            lon: 13.361389,
            lat: 38.115556,
        };
        let catania = Place {
            lon: 15.087269,
            lat: 37.502669,
        };
        assert_eq!(palermo.score(), 3479099956230698);
        assert_eq!(catania.score(), 3479447370796909);
        let [palermo, catania] = [palermo, catania].map(|p| Place::from_score(p.score() as f64));
        assert_eq!(palermo.text(), *b"sqc8b49rny0");
        assert_eq!(catania.text(), *b"sqdtr74hyu0");
        assert_eq!(format!("{:.4}", palermo.distance(catania)), "166274.1516");
    }

    #[test]
    fn neighbours_go_around_the_world() {
        let corner = Cell { bits: 0, step: 3 };
        assert_eq!(corner.neighbour(-1, 0).bits, 0b101010);
        assert_eq!(corner.neighbour(0, -1).bits, 0b010101);
        assert_eq!(corner.neighbour(1, 1).bits, 0b000011);
        assert_eq!(corner.neighbour(-1, 0).neighbour(1, 0), corner);
    }

    #[test]
    fn half_of_the_world_is_searched_once() {
        let centre = Place { lon: 1.0, lat: 1.0 };
        let area = Area {
            centre,
            shape: Shape::Circle { radius: 10_000.0 },
            unit_m: 1000.0,
        };
        let mut ranges: Vec<(f64, f64)> = area.score_ranges().collect();
        ranges.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "{ranges:?}");
    }
}
