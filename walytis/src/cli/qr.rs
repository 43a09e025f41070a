//! QR codes for terminals.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

use crate::failure::{Failure, Kind};

/// Draws a text with half blocks, two modules a character: dark on light, as cameras expect it, on dark terminals.
pub(crate) fn draw(text: &str) -> Result<String, Failure> {
    // The lowest level of correction: a screen has no stains, and fewer modules are easier to read.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).map_err(|_| {
        Failure::new(
            Kind::Failed,
            "the invitation is too long for a QR code",
            "pass on its text; a chain's names fewer addresses without --shareable",
        )
    })?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_drawn_with_a_quiet_zone_and_one_too_long_is_refused() {
        let drawn = draw("walytis1abc").unwrap();
        let lines: Vec<_> = drawn.lines().collect();
        // Version 1 has 21 modules, with the quiet zone of 4 on each side 29, two of them a line.
        assert_eq!((lines.len(), lines[0].chars().count()), (15, 29));
        let quiet = lines[0];
        assert!(quiet.chars().all(|c| c == '\u{2588}'), "{quiet:?}");
        assert!(lines.iter().any(|line| *line != quiet));
        assert_eq!(draw(&"x".repeat(3_000)).unwrap_err().kind, Kind::Failed);
    }
}
