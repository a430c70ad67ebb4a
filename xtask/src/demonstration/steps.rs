//! What happens to the site while the demonstration watches. Every step finds what the steps before it left.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::Duration,
};

use super::site;

/// One thing that happens.
pub(super) struct Step {
    /// In words that fit the table.
    pub(super) what: &'static str,
    /// Does it to the site at the path.
    pub(super) perform: fn(&Path) -> io::Result<()>,
}

/// In this order.
pub(super) const ALL: [Step; 11] = [
    Step { what: "one new page", perform: one_page },
    Step { what: "40 pages rewritten", perform: rewrite },
    Step { what: "an editor saves a page 5 times", perform: editor },
    Step { what: "a log grows, 400 appends in 1.6 s", perform: log },
    Step { what: "20 uploads of 256 KiB", perform: uploads },
    Step { what: "30 pictures renamed", perform: rename_pictures },
    Step { what: "a section of 30 pages renamed", perform: rename_section },
    Step { what: "30 pages chmod 600", perform: chmod },
    Step { what: "2,000 new files in 100 directories", perform: burst },
    Step { what: "20 pages deleted", perform: delete },
    Step { what: "rm -rf of the 2,000", perform: delete_burst },
];

fn one_page(root: &Path) -> io::Result<()> {
    fs::write(root.join("news.html"), site::page("News", 1))
}

fn rewrite(root: &Path) -> io::Result<()> {
    (0..40).try_for_each(|number| fs::write(site::page_path(root, number), site::page("Rewritten", number)))
}

/// A temporary name, fsync, and a rename over the page: what vim and most others do.
fn editor(root: &Path) -> io::Result<()> {
    for save in 0..5 {
        let temporary = root.join(".index.html.swx");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(site::page("Home, edited", save).as_bytes())?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, root.join("index.html"))?;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn log(root: &Path) -> io::Result<()> {
    let mut log = OpenOptions::new().create(true).append(true).open(root.join("access.log"))?;
    for line in 0..400 {
        writeln!(log, "127.0.0.1 GET /page-{line}.html 200")?;
        thread::sleep(Duration::from_millis(4));
    }
    Ok(())
}

fn uploads(root: &Path) -> io::Result<()> {
    (0..20).try_for_each(|number| fs::write(root.join(format!("uploads/upload-{number}.bin")), site::random_bytes(256 * 1024)?))
}

fn rename_pictures(root: &Path) -> io::Result<()> {
    (0..30).try_for_each(|number| fs::rename(site::picture(root, number), root.join(format!("images/photo-{number}.jpg"))))
}

fn rename_section(root: &Path) -> io::Result<()> {
    fs::rename(root.join("section-7"), root.join("archive"))
}

fn chmod(root: &Path) -> io::Result<()> {
    (90..120).try_for_each(|number| fs::set_permissions(site::page_path(root, number), Permissions::from_mode(0o600)))
}

fn burst(root: &Path) -> io::Result<()> {
    for directory in 0..100 {
        let directory = root.join(format!("burst/{directory}"));
        fs::create_dir_all(&directory)?;
        for file in 0..20 {
            fs::write(directory.join(format!("{file}.html")), site::page("Burst", file))?;
        }
    }
    Ok(())
}

fn delete(root: &Path) -> io::Result<()> {
    (120..140).try_for_each(|number| fs::remove_file(site::page_path(root, number)))
}

fn delete_burst(root: &Path) -> io::Result<()> {
    fs::remove_dir_all(root.join("burst"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_finds_what_it_needs() {
        let root = tempfile::tempdir().unwrap();
        site::make(root.path()).unwrap();
        for step in &ALL {
            (step.perform)(root.path()).unwrap_or_else(|error| panic!("{}: {error}", step.what));
            assert!(step.what.len() <= super::super::table::WIDTH_OF_WHAT, "{}", step.what);
        }
    }
}
