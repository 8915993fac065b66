//! The checksum of a migration file: SHA-256 over its canonical text.

use sha2::{Digest, Sha256};

/// Brings a file's text to the form that is hashed, parsed and stored: no byte order mark, `\n` line ends, no
/// blanks at line ends, one newline at the end. An editor or a checkout that changes only these changes nothing.
pub(crate) fn canonical(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches([' ', '\t', '\r'])).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let mut canonical = lines.join("\n");
    canonical.push('\n');
    canonical
}

/// The hash of a canonical text, as `v1:` and 64 hex digits. The prefix names the canonical form, so that another
/// form can come without making every applied file look changed.
pub(crate) fn checksum(canonical: &str) -> String {
    let mut hex = String::with_capacity(67);
    hex.push_str("v1:");
    for byte in Sha256::digest(canonical.as_bytes()) {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_with_other_line_ends_have_the_same_checksum() {
        let unix = "SELECT 1;\nSELECT 2;\n";
        for copy in
            ["\u{feff}SELECT 1;\r\nSELECT 2;\r\n", "SELECT 1;  \nSELECT 2;\n\n\n", "SELECT 1;\nSELECT 2;"]
        {
            assert_eq!(checksum(&canonical(copy)), checksum(&canonical(unix)));
        }
        assert_ne!(checksum(&canonical("SELECT 1;")), checksum(&canonical("SELECT 1")));
    }
}
