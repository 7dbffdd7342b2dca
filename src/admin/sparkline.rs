//! A sparkline of characters: one column a value, a few rows high, with a label under each column.
//!
//! ```text
//!    #
//!   o|_
//! __|||
//!
//! 4321n     (labels are written downwards: "4m", "now" ...)
//! ```
//! A column is a bar of `|` with a head whose character says how much of its row it fills: `_`, `o`
//! or `#`. The least value is the lowest head, the greatest the highest.

/// The heads, from low to high.
const HEADS: [u8; 3] = *b"_o#";

/// Draws values with their labels, `rows` high; what does not fit into `columns` goes on below.
pub fn draw(values: &[(u64, String)], columns: usize, rows: usize) -> String {
    let low = values.iter().map(|v| v.0).min().unwrap_or(0);
    let high = values.iter().map(|v| v.0).max().unwrap_or(0);
    let blocks: Vec<String> = values
        .chunks(columns)
        .map(|part| block(part, low, high, rows))
        .collect();
    blocks.join("\n")
}

/// One stretch of columns with its labels.
fn block(part: &[(u64, String)], low: u64, high: u64, rows: usize) -> String {
    let steps = (rows * HEADS.len()) as u64;
    let range = (high - low).max(1);
    let heights: Vec<usize> = part
        .iter()
        .map(|(value, _)| ((value - low) * steps / range).min(steps - 1) as usize)
        .collect();
    let mut out = String::new();
    for row in (0..rows).rev() {
        let floor = row * HEADS.len();
        out.extend(heights.iter().map(|&h| match h.checked_sub(floor) {
            None => ' ',
            Some(over) => HEADS.get(over).map_or('|', |&head| char::from(head)),
        }));
        out.push('\n');
    }
    let longest = part.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
    if longest > 0 {
        out.push_str(&" ".repeat(part.len()));
        out.push('\n');
    }
    for at in 0..longest {
        out.extend(
            part.iter()
                .map(|(_, label)| label.as_bytes().get(at).map_or(' ', |&b| char::from(b))),
        );
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(values: &[u64]) -> Vec<(u64, String)> {
        values.iter().map(|&v| (v, format!("{v}s"))).collect()
    }

    #[test]
    fn heads_and_bars() {
        let drawn = draw(&labelled(&[0, 50, 120]), 80, 4);
        assert_eq!(drawn, "  #\n  |\n #|\n_||\n   \n051\ns02\n s0\n  s\n");
        assert_eq!(draw(&[], 80, 4), "");
        // All alike: as low as can be.
        assert_eq!(draw(&labelled(&[7, 7]), 80, 2), "  \n__\n  \n77\nss\n");
    }

    #[test]
    fn what_does_not_fit_goes_on_below() {
        let drawn = draw(&labelled(&[1, 2, 3]), 2, 1);
        assert_eq!(drawn.matches("\n\n").count(), 1);
        assert!(drawn.ends_with("#\n \n3\ns\n"));
    }
}
