//! LOLWUT: a picture by chance, and the version. Every major version of Redis has a picture of its own; version 7
//! has none.
//!
//! Version 5 is Georg Nees's "Schotter" (1968): a grid of squares that fall out of order from top to bottom, drawn
//! with braille characters, each of which is 2 dots wide and 4 high. Version 6 is the skyline of a town, as 8-bit
//! games had it for background: two rows of houses in shades of grey, then houses with windows in front, each
//! "pixel" a coloured space.

use crate::admin::info::REDIS_VERSION;
use crate::base::number;
use crate::base::rng::Rng;
use crate::cmd::fault::{Fault, NOT_INTEGER};
use crate::cmd::spec::{Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::exec::{Call, ServerFn};

const LOLWUT: Row<ServerFn> = Spec::new("lolwut", -1, Group::Server)
    .flags(Flags::READONLY.or(Flags::FAST))
    .since("5.0.0")
    .about("Draws a picture and tells the version.")
    .args(&[Arg::int("version").token("VERSION").optional()])
    .run(lolwut);

/// LOLWUT [VERSION version] [arguments of the picture]
fn lolwut(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (version, sizes) = match args.argv() {
        [_, word, version, rest @ ..] if is_word(word, "version") => (integer(version)?, rest),
        [_, rest @ ..] => (7, rest),
        [] => (7, &[][..]),
    };
    let rng = &mut call.server.rng;
    let mut text = match version {
        5 => schotter(sizes, rng)?,
        6 => skyline(sizes, rng)?,
        _ => String::new(),
    };
    text.push_str("Redis ver. ");
    text.push_str(REDIS_VERSION);
    text.push('\n');
    call.reply().verbatim(b"txt", text.as_bytes());
    DONE
}

fn integer(arg: &[u8]) -> Result<i64, Fault> {
    number::parse_i64(arg).ok_or(NOT_INTEGER)
}

/// The argument at `at`, if it is given, within 1 and `max`.
fn size(sizes: &[&[u8]], at: usize, default: usize, max: i64) -> Result<usize, Fault> {
    match sizes.get(at) {
        None => Ok(default),
        Some(arg) => Ok(integer(arg)?.clamp(1, max) as usize),
    }
}

/// A field of pixels, each a number for its colour.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize, colour: u8) -> Canvas {
        Canvas {
            width,
            height,
            pixels: vec![colour; width * height],
        }
    }

    fn place(&self, x: i64, y: i64) -> Option<usize> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        (x < self.width && y < self.height).then_some(x + y * self.width)
    }

    fn get(&self, x: i64, y: i64) -> u8 {
        self.place(x, y).map_or(0, |at| self.pixels[at])
    }

    /// Pixels off the canvas are not there.
    fn set(&mut self, x: i64, y: i64, colour: u8) {
        if let Some(at) = self.place(x, y) {
            self.pixels[at] = colour;
        }
    }

    /// A straight line, a pixel for each step along its longer side.
    fn line(&mut self, from: (f64, f64), to: (f64, f64)) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let steps = dx.abs().max(dy.abs()).max(1.0).round();
        for step in 0..=steps as i64 {
            let part = step as f64 / steps;
            let (x, y) = (from.0 + dx * part, from.1 + dy * part);
            self.set(x.round() as i64, y.round() as i64, 1);
        }
    }

    /// A square around a centre, turned by `angle`.
    fn square(&mut self, x: f64, y: f64, side: f64, angle: f64) {
        let radius = (side / std::f64::consts::SQRT_2).round();
        let corner = |quarter: usize| {
            let at = angle + std::f64::consts::FRAC_PI_2 * (quarter as f64 + 0.5);
            (x + at.sin() * radius, y + at.cos() * radius)
        };
        for quarter in 0..4 {
            self.line(corner(quarter), corner(quarter + 1));
        }
    }
}

/// LOLWUT VERSION 5 [columns [squares a row [squares a column]]]
fn schotter(sizes: &[&[u8]], rng: &mut Rng) -> Result<String, Fault> {
    let columns = size(sizes, 0, 66, 1000)?;
    let a_row = size(sizes, 1, 8, 200)?;
    let a_column = size(sizes, 2, 12, 200)?;
    let width = columns * 2;
    let padding = if width > 4 { 2 } else { 0 };
    let side = (width - padding * 2) as f64 / a_row as f64;
    let height = (side * a_column as f64) as usize + padding * 2;
    let mut canvas = Canvas::new(width, height, 0);
    for row in 0..a_column {
        // The first two rows stand in order; from there on, what may go wrong grows.
        let disorder = if row > 1 {
            row as f64 / a_column as f64
        } else {
            0.0
        };
        let mut drift = || (rng.f64() * 2.0 - 1.0) * disorder;
        for column in 0..a_row {
            let centre = |at: usize| (at as f64 + 0.5) * side + padding as f64;
            let x = centre(column) + drift() * side / 3.0;
            let y = centre(row) + drift() * side / 3.0;
            canvas.square(x, y, side, drift());
        }
    }
    Ok(format!(
        "{}\nGeorg Nees - schotter, plotter on paper, 1968. ",
        braille(&canvas)
    ))
}

/// The dots of a braille character in the order of its code's bits: (column, row).
const DOTS: [(i64, i64); 8] = [
    (0, 0),
    (0, 1),
    (0, 2),
    (1, 0),
    (1, 1),
    (1, 2),
    (0, 3),
    (1, 3),
];

fn braille(canvas: &Canvas) -> String {
    let mut text = String::new();
    for y in (0..canvas.height as i64).step_by(4) {
        for x in (0..canvas.width as i64).step_by(2) {
            let lit = |(dx, dy): (i64, i64)| u32::from(canvas.get(x + dx, y + dy) != 0);
            let bits = (0..8).fold(0, |bits, i| bits | lit(DOTS[i]) << i);
            text.push(char::from_u32(0x2800 + bits).unwrap_or(' '));
        }
        // A last row of single dots goes without, as in Redis.
        if y + 1 != canvas.height as i64 {
            text.push('\n');
        }
    }
    text
}

const BLACK: u8 = 0;
const DARK_GREY: u8 = 1;
const LIGHT_GREY: u8 = 2;
const WHITE: u8 = 3;

/// A house of the skyline, in pixels.
struct House {
    x: i64,
    width: i64,
    height: i64,
    colour: u8,
    windows: bool,
}

/// LOLWUT VERSION 6 [columns [rows]]
fn skyline(sizes: &[&[u8]], rng: &mut Rng) -> Result<String, Fault> {
    let columns = size(sizes, 0, 80, 1000)?;
    let rows = size(sizes, 1, 20, 1000)?;
    let mut canvas = Canvas::new(columns, rows, WHITE);
    let half = rows as i64 / 2;
    street(
        &mut canvas,
        rng,
        (LIGHT_GREY, half, half),
        (10, 9),
        |width| width / 2,
    );
    street(
        &mut canvas,
        rng,
        (DARK_GREY, half, rows as i64 / 3),
        (10, 9),
        |width| width + 1,
    );
    street(
        &mut canvas,
        rng,
        (BLACK, rows as i64 / 3, half),
        (5, 14),
        |width| width + 5,
    );
    Ok(format!(
        "{}\nDedicated to the 8 bit game developers of past and present.\n\
         Original 8 bit image from Plaguemon by hikikomori. ",
        colours(&canvas)
    ))
}

/// A row of houses from the left to the right: their colour, least height and how much higher they may be; their
/// least width and how much wider they may be; how far the next begins from one of a given width.
fn street(
    canvas: &mut Canvas,
    rng: &mut Rng,
    (colour, low, higher): (u8, i64, i64),
    (narrow, wider): (i64, i64),
    step: fn(i64) -> i64,
) {
    let mut below = |n: i64| rng.below(n.max(1) as u64) as i64;
    let mut houses = Vec::new();
    let mut x = -10;
    while x < canvas.width as i64 {
        x += below(8);
        let width = narrow + below(wider);
        houses.push(House {
            x,
            // Windows come in pairs of pixels with as much wall between them.
            width: if colour == BLACK {
                width - width % 4 + 2
            } else {
                width
            },
            height: low + below(higher),
            colour,
            windows: colour == BLACK,
        });
        x += step(width);
    }
    for house in houses {
        build(canvas, &house, rng);
    }
}

fn build(canvas: &mut Canvas, house: &House, rng: &mut Rng) {
    let bottom = canvas.height as i64 - 1;
    let top = bottom - house.height + 1;
    for y in top..=bottom {
        // The roof is narrower by two pixels on either side.
        let eaves = if y == top { 2 } else { 0 };
        for x in eaves..house.width - eaves {
            canvas.set(house.x + x, y, house.colour);
        }
    }
    if !house.windows {
        return;
    }
    for y in (top + 2..bottom - 1).step_by(2) {
        for x in (2..house.width - 3).step_by(4) {
            let light = if rng.below(2) == 0 {
                DARK_GREY
            } else {
                LIGHT_GREY
            };
            canvas.set(house.x + x, y, light);
            canvas.set(house.x + x + 1, y, light);
        }
    }
}

/// A space a pixel, its colours set by the terminal's escape sequences.
fn colours(canvas: &Canvas) -> String {
    let pixel = |colour: &u8| match *colour {
        DARK_GREY => "\x1b[0;90;100m \x1b[0m",
        LIGHT_GREY => "\x1b[0;37;47m \x1b[0m",
        WHITE => "\x1b[0;97;107m \x1b[0m",
        _ => "\x1b[0;30;40m \x1b[0m",
    };
    let rows = canvas.pixels.chunks(canvas.width);
    let rows: Vec<String> = rows.map(|row| row.iter().map(pixel).collect()).collect();
    rows.join("\n")
}

pub static ROWS: &[Row<ServerFn>] = &[LOLWUT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_the_asked_size() {
        let mut rng = Rng::new(1);
        let lines =
            |text: String| -> Vec<usize> { text.lines().map(|l| l.chars().count()).collect() };
        let drawn = lines(schotter(&[b"20", b"4", b"2"], &mut rng).unwrap());
        // 40 dots wide, 4 squares of 9 dots: two rows of them and the padding are 22 dots, 6 characters.
        assert_eq!(drawn[..6], [20; 6]);
        assert_eq!(drawn.len(), 8);
        let pixel = "\x1b[0;30;40m \x1b[0m".len();
        let town = skyline(&[b"30", b"5"], &mut rng).unwrap();
        let widths: Vec<_> = town.lines().map(|l| l.matches(' ').count()).collect();
        assert_eq!(widths[..5], [30; 5]);
        assert!(town.len() >= 150 * pixel);
    }

    #[test]
    fn sizes_are_bounded_and_must_be_numbers() {
        let mut rng = Rng::new(2);
        assert!(schotter(&[b"-5", b"0", b"999999999999"], &mut rng).is_ok());
        assert!(skyline(&[b"0", b"-1"], &mut rng).is_ok());
        assert!(skyline(&[b"1000", b"1000"], &mut rng).is_ok());
        assert_eq!(schotter(&[b"x"], &mut rng), Err(NOT_INTEGER));
        assert_eq!(skyline(&[b"1", b"x"], &mut rng), Err(NOT_INTEGER));
    }

    #[test]
    fn the_upper_rows_of_squares_stand_in_order() {
        let (a, b) = (Rng::new(3), Rng::new(4));
        let [a, b] = [a, b].map(|mut rng| schotter(&[], &mut rng).unwrap());
        let head = |s: &str| s.lines().take(7).collect::<Vec<_>>().join("\n");
        assert_eq!(head(&a), head(&b));
        assert_ne!(a, b);
    }
}
