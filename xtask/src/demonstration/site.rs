//! A small web site: pages, style sheets, pictures of random bytes, an uploads directory.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Sections of the site, each a directory of pages.
const SECTIONS: usize = 8;
/// Pages in a section.
const PAGES: usize = 30;
/// Pictures, beside the pages.
const PICTURES: usize = 60;

/// Makes the site in an empty directory and returns how many entries it has.
pub(super) fn make(root: &Path) -> io::Result<usize> {
    for directory in ["css", "images", "uploads"] {
        fs::create_dir(root.join(directory))?;
    }
    fs::write(root.join("index.html"), page("Home", 0))?;
    fs::write(root.join("css/site.css"), "body { font: 16px/1.5 serif; max-width: 40em; margin: auto }\n")?;
    for number in 0..PICTURES {
        fs::write(picture(root, number), random_bytes(24 * 1024)?)?;
    }
    for section in 0..SECTIONS {
        fs::create_dir(root.join(format!("section-{section}")))?;
        for number in 0..PAGES {
            fs::write(page_path(root, section * PAGES + number), page("Page", number))?;
        }
    }
    Ok(5 + PICTURES + SECTIONS * (PAGES + 1))
}

/// Where page `number` of the whole site is.
pub(super) fn page_path(root: &Path, number: usize) -> PathBuf {
    root.join(format!("section-{}/page-{}.html", number / PAGES % SECTIONS, number % PAGES))
}

/// Where picture `number` is.
pub(super) fn picture(root: &Path, number: usize) -> PathBuf {
    root.join(format!("images/picture-{}.jpg", number % PICTURES))
}

/// A page of some kilobytes.
pub(super) fn page(title: &str, number: usize) -> String {
    let paragraph = format!("<p>Paragraph of {title} {number}, which says the same as the one before it.</p>\n");
    format!(
        "<!doctype html>\n<title>{title} {number}</title>\n<link rel=stylesheet href=/css/site.css>\n<h1>{title} {number}</h1>\n{}",
        paragraph.repeat(30)
    )
}

/// What no compression makes smaller.
pub(super) fn random_bytes(count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_has_as_many_entries_as_it_says() {
        fn entries(directory: &Path) -> usize {
            let inside = fs::read_dir(directory).unwrap().map(Result::unwrap);
            inside.map(|entry| 1 + if entry.file_type().unwrap().is_dir() { entries(&entry.path()) } else { 0 }).sum()
        }
        let root = tempfile::tempdir().unwrap();
        assert_eq!(make(root.path()).unwrap(), entries(root.path()));
        assert!(page_path(root.path(), SECTIONS * PAGES - 1).exists());
        assert!(picture(root.path(), PICTURES - 1).exists());
    }
}
