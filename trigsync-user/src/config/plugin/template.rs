//! Texts of a request with places to be filled in: `{path}`, `{json}`, `{url}`, `{urls}`, `{secret}`.
//!
//! Any other brace stands for itself, but a lower-case word alone in braces is refused: it was meant for one of these.

use std::fmt;

/// A text with places to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Stands as it is.
    Text(String),
    /// To be filled in.
    Hole(Placeholder),
}

/// What can be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The one path of the run, percent-encoded, its slashes kept.
    Path,
    /// The batch.
    Json,
    /// The one URL of the run, percent-encoded as part of another.
    Url,
    /// All URLs of the run, as a JSON array.
    Urls,
    /// What the secret file holds.
    Secret,
}

const WORDS: [(&str, Placeholder); 5] = [
    ("path", Placeholder::Path),
    ("json", Placeholder::Json),
    ("url", Placeholder::Url),
    ("urls", Placeholder::Urls),
    ("secret", Placeholder::Secret),
];

impl Template {
    /// Reads a template; where it has an unknown placeholder, that is the error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut plain = String::new();
        while let Some(start) = rest.find('{') {
            plain.push_str(&rest[..start]);
            let inner = &rest[start + 1..];
            let word = inner.split_once('}').map(|(word, _)| word);
            match word.filter(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())) {
                Some(word) => {
                    let Some((_, hole)) = WORDS.iter().find(|(known, _)| *known == word) else {
                        let known: Vec<_> = WORDS.iter().map(|(known, _)| format!("{{{known}}}")).collect();
                        return Err(format!("has `{{{word}}}`, which stands for nothing (known: {})", known.join(", ")));
                    };
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Hole(*hole));
                    rest = &inner[word.len() + 1..];
                }
                None => {
                    plain.push('{');
                    rest = inner;
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// In their order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether the placeholder stands in it.
    pub fn asks_for(&self, placeholder: Placeholder) -> bool {
        self.0.contains(&Piece::Hole(placeholder))
    }
}

/// As it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Hole(hole) => {
                    let word = WORDS.iter().find(|(_, known)| known == hole).map_or("", |(word, _)| word);
                    write!(f, "{{{word}}}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_that_are_no_placeholders_stand_for_themselves() {
        let text = r#"{"files": {urls}, "a": {}, "b": {"c": "{Path}"}} {"#;
        let template = Template::parse(text).unwrap();
        assert_eq!(template.pieces().len(), 3);
        assert!(template.asks_for(Placeholder::Urls) && !template.asks_for(Placeholder::Path));
        assert_eq!(template.to_string(), text);
        assert!(Template::parse("x{pth}").unwrap_err().starts_with("has `{pth}`, which stands for nothing"));
    }
}
