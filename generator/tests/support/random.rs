//! Numbers and texts for properties.

/// A small generator of pseudo-random numbers (xorshift64*): the same seed gives the same cases.
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    /// Text of everything that means something to somebody, and of any other character.
    pub fn text(&mut self) -> String {
        const SPECIAL: [&str; 40] = [
            "%",
            "%%",
            "%n",
            "%t",
            "$",
            "$$",
            "${DAGGER_UID}",
            "$X",
            "${",
            "}",
            ";",
            "#",
            "\\",
            "\\n",
            "\\x20",
            "\"",
            "'",
            " ",
            "  ",
            "\t",
            "\n",
            "\r",
            "\r\n",
            "=",
            ",",
            ":",
            "-",
            "/",
            "..",
            "[",
            "]",
            "\u{feff}",
            "\u{fffe}",
            "\u{fdd0}",
            "\u{1ffff}",
            "ä",
            "\u{7f}",
            "\u{1}",
            "\u{1b}[0m",
            "@",
        ];
        let mut text = String::new();
        for _ in 0..self.below(12) {
            match self.below(4) {
                0 => text.push((b'a'..=b'z').nth(self.below(26)).map_or('a', char::from)),
                1 => text.extend(char::from_u32(1 + self.below(0x10_fffe) as u32)),
                _ => text.push_str(SPECIAL[self.below(SPECIAL.len())]),
            }
        }
        text
    }
}
