//! Makers of trees.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::symlink,
    },
    path::Path,
};

/// A small web site: some directories, some files, a link.
pub fn web_site(root: &Path) {
    for directory in ["css", "img/large", "posts/2024", "posts/2025"] {
        fs::create_dir_all(root.join(directory)).expect("a directory of the site");
    }
    let page = |title: &str| format!("<title>{title}</title>\n").repeat(20);
    for (name, content) in [("index.html", page("home")), ("css/site.css", "p { margin: 0 }\n".repeat(100)), ("robots.txt", String::new())]
    {
        fs::write(root.join(name), content).expect("a file of the site");
    }
    for year in ["2024", "2025"] {
        for number in 0..10 {
            fs::write(root.join(format!("posts/{year}/{number}.html")), page(&format!("{year} {number}"))).expect("a file of the site");
        }
    }
    fs::write(root.join("img/large/banner.bin"), noise(200_000, 1)).expect("a file of the site");
    symlink("posts/2025", root.join("current")).expect("a link of the site");
}

/// `count` small files in `directory`, at most 200 in one subdirectory.
pub fn many_files(directory: &Path, count: usize) {
    for number in 0..count {
        let below = directory.join(format!("d{}", number / 200));
        if number % 200 == 0 {
            fs::create_dir_all(&below).expect("a directory for files");
        }
        fs::write(below.join(format!("f{number}")), format!("file {number}\n")).expect("a small file");
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// Names that a careless program trips over: options, comments, patterns, shell words, line ends, bytes that are no UTF-8, 255 bytes.
pub fn hostile_names() -> Vec<OsString> {
    let mut names: Vec<Vec<u8>> = [
        "-rf",
        "--delete",
        "#x",
        ";x",
        ":x",
        "x:y",
        "*",
        "?",
        "[a]",
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "| touch pwned",
        "a\\",
        "\\#012",
        "\\n",
        "'",
        "\"",
        " leading",
        "trailing ",
        "  ",
        "new\nline",
        "\n",
        "cr\r",
        "tab\t",
        "bell\u{7}",
        ".x",
        "x~",
        "4913",
        "...",
        "..x",
        "~",
        "~root",
        "!",
        "+ x",
        "- x",
        "P x",
        "a,b",
        "a=b",
        "%s%n",
        "@x",
        "x.tmp",
        "user@host:",
        "rsync:",
        "é",
        "e\u{301}",
        "名前",
        ".rsync-filter",
        ".gitignore",
        "NUL",
        "con",
    ]
    .map(|name| name.as_bytes().to_vec())
    .to_vec();
    names.extend([b"\xff".to_vec(), b"latin-\xe9".to_vec(), b"\xc3".to_vec(), b"\xed\xa0\x80".to_vec(), b"\x01\x7f".to_vec()]);
    names.push(vec![b'n'; 255]);
    names.push([b"\xf0\x9f\xa6\x80".repeat(63), b"end".to_vec()].concat());
    names.into_iter().map(OsString::from_vec).collect()
}

/// A file, and a directory with a file in it, for each of the hostile names.
pub fn plant_hostile_names(root: &Path) {
    fs::create_dir_all(root.join("files")).expect("a directory");
    for name in hostile_names() {
        fs::write(root.join("files").join(&name), name.as_bytes()).expect("a file with a hostile name");
        let directory = root.join("directories").join(&name);
        fs::create_dir_all(&directory).expect("a directory with a hostile name");
        fs::write(directory.join(&name), name.as_bytes()).expect("a file with a hostile name");
    }
}

/// Names in `directory`, sorted.
pub fn names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    names
}

/// The content of a file; nothing where it is not there.
pub fn content(path: impl AsRef<Path>) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// `name` in `directory`, for names that are bytes.
pub fn at(directory: &Path, name: &[u8]) -> std::path::PathBuf {
    directory.join(OsStr::from_bytes(name))
}
