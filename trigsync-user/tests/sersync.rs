//! sersync's confxml.xml: what each variant comes to, as a table that `TRIGSYNC_RENEW=1` writes anew, and what no bytes may do.

mod imported;
#[path = "sersync/variants.rs"]
mod variants;

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use trigsync::config::{
    Config, ConfigError, DaemonConfig, HttpRequest, Overrides, PluginAction, PluginConfig, RawConfig, Template,
    foreign::{Imported, NoteKind},
    sersync,
};

use variants::{AUTH, FILTER, SHIPPED, edited, excluding, least, variants};

const EXPECTED: &str = "tests/sersync/expected.txt";

/// What the configurations name. The file that the shipped one has for a password is there, and closed to others.
fn fixture() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["www", "other", "数据", "with password"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("says.sh"), "#!/bin/bash\n").unwrap();
    for name in ["rsync.pas", "www/relative.pas", "with password/refreshCDN.password"] {
        fs::write(at(name), "secret\n").unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

fn bytes_in(directory: &Path, bytes: &[u8]) -> Vec<u8> {
    let here = directory.to_str().unwrap();
    if bytes.starts_with(&[0xff, 0xfe]) {
        let units: Vec<_> = bytes[2..].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let text = String::from_utf16(&units).unwrap().replace("$DIR", here);
        return [vec![0xff, 0xfe], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    }
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(4).position(|word| word == b"$DIR") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(here.as_bytes());
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest);
    out
}

fn resolve(directory: &Path, bytes: &[u8]) -> Result<(Imported, Config), ConfigError> {
    let has_password = bytes.windows(17).any(|word| word == b"<!-- password -->");
    let file = directory.join(if has_password { "with password/confxml.xml" } else { "confxml.xml" });
    let imported = match alone(bytes) {
        Some(plugin) => sersync::parse_plugin(&bytes_in(directory, bytes), &file, &plugin)?,
        None => sersync::parse(&bytes_in(directory, bytes), &file)?,
    };
    let config = imported.raw.clone().resolve(&Overrides::default(), &directory.join("state"))?;
    Ok((imported, config))
}

/// The plugin of a variant that is for sersync's `-m`.
fn alone(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once("<!-- -m ")?;
    Some(rest.split_once(" -->")?.0.to_owned())
}

/// Everything that is not as for a configuration that says only from where and to where.
fn effective(config: &Config) -> String {
    let plain = format!("[[sync]]\nsource = {:?}\ntargets = [\"/nowhere\"]\n", config.syncs[0].source);
    let plain = RawConfig::parse(&plain, Path::new("/plain.toml")).unwrap();
    let plain = plain.resolve(&Overrides::default(), Path::new("/state")).unwrap();
    let DaemonConfig { fail_log, .. } = &config.daemon;
    assert_eq!(config.daemon, DaemonConfig { fail_log: fail_log.clone(), ..plain.daemon });
    let mut out = String::new();
    if let Some(file) = fail_log {
        _ = writeln!(out, "failures in {}", file.display());
    }
    for sync in &config.syncs {
        let usual = &plain.syncs[0];
        assert_eq!((sync.settle, sync.batch, sync.guards), (usual.settle, usual.batch, usual.guards));
        _ = writeln!(out, "sync {} of {}, cross_mounts = {}", sync.name, sync.source.display(), sync.cross_mounts);
        out.push_str(&imported::of_sync(sync));
        for target in &sync.targets {
            assert_eq!((target.connections, &target.identity), (usual.targets[0].connections, &None));
            assert_eq!(target.name.parse(), Ok(target.address.clone()));
            _ = write!(out, "  target {}, timeout {:?}, options {:?}", target.address, target.timeout, target.options);
            if let Some(file) = &target.password_file {
                _ = write!(out, ", password {}", file.display());
            }
            if let Some(limit) = &target.bandwidth_limit {
                _ = write!(out, ", limit {limit}");
            }
            if target.modify_window != -1 {
                _ = write!(out, ", window {}", target.modify_window);
            }
            out.push('\n');
        }
        for plugin in &sync.plugins {
            let PluginConfig { name, after: None, paths, absolute, batch, rate: None, timeout, attempts, memory: _, action } = plugin
            else {
                panic!("{plugin:?}")
            };
            assert!(paths.only.is_none() && paths.exclude.is_empty() && paths.whole && *batch == 1, "{plugin:?}");
            let paths = paths.matching.as_ref().map(ToString::to_string).unwrap_or_default();
            let form = if *absolute { "whole" } else { "relative" };
            _ = writeln!(out, "  plugin {name}, {form} paths that match {paths}, {attempts} attempts of {timeout:?}");
            _ = match action {
                PluginAction::Exec { command, input } => writeln!(out, "    runs {command:?} with {input:?}"),
                PluginAction::Tcp { to, separator } => writeln!(out, "    tells {to}, {separator:?}"),
                PluginAction::Http(request) => writeln!(out, "    {}", shown_request(request)),
                PluginAction::Purge { urls, request } => {
                    let replace = urls.replace.as_ref().map(|(expression, with)| format!("{expression} to {with} in "));
                    writeln!(out, "    purges {}{}, {}", replace.unwrap_or_default(), urls.base, shown_request(request))
                }
            };
        }
    }
    out
}

fn shown_request(request: &HttpRequest) -> String {
    let HttpRequest { method, url, headers, body, secret_file } = request;
    let texts = |template: &Option<Template>| template.as_ref().map(ToString::to_string).unwrap_or_default();
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("{method} {} {headers:?} {:?}, secret {secret_file:?}", texts(url), texts(body))
}

/// What is said of the shipped file, without its places.
fn said_of_the_shipped(directory: &Path) -> Vec<String> {
    let (imported, _) = resolve(directory, SHIPPED.as_bytes()).unwrap();
    imported.notes.iter().map(|note| without_place(&note.to_string())).collect()
}

fn without_place(line: &str) -> String {
    line.split_once(": ").unwrap().1.to_owned()
}

/// As it stands in the table. What differs for the shipped file too stands there once.
fn shown(directory: &Path, name: &str, bytes: &[u8]) -> String {
    let usual = if name == "as shipped" { Vec::new() } else { said_of_the_shipped(directory) };
    let mut out = format!("=== {name}\n");
    match resolve(directory, bytes) {
        Ok((imported, config)) => {
            out += &effective(&config);
            for note in &imported.notes {
                let line = note.to_string();
                match note.kind {
                    NoteKind::Warning => _ = writeln!(out, "  warning: {line}"),
                    NoteKind::Difference if usual.contains(&without_place(&line)) => {}
                    NoteKind::Difference => _ = writeln!(out, "  differs: {line}"),
                }
            }
        }
        Err(error) => _ = writeln!(out, "  error: {error}"),
    }
    out.replace(&format!("{}/confxml.xml", directory.display()), "FILE")
        .replace(&format!("{}/with password/confxml.xml", directory.display()), "FILE")
        .replace(&regex::escape(directory.to_str().unwrap()), "$DIR")
        .replace(directory.to_str().unwrap(), "$DIR")
}

#[test]
fn every_variant_comes_to_what_the_table_says() {
    let directory = fixture();
    let found: String = variants().iter().map(|(name, bytes)| shown(directory.path(), name, bytes)).collect();
    if std::env::var_os("TRIGSYNC_RENEW").is_some() {
        fs::write(EXPECTED, &found).unwrap();
    }
    let expected = fs::read_to_string(EXPECTED).unwrap();
    for (found, expected) in found.split_inclusive("\n=== ").zip(expected.split_inclusive("\n=== ")) {
        assert_eq!(found, expected, "TRIGSYNC_RENEW=1 writes {EXPECTED} anew");
    }
    assert_eq!(found.len(), expected.len());
    assert!(!found.contains("never shown"), "a password is told");
}

#[test]
fn what_is_imported_resolves_to_the_same() {
    let directory = fixture();
    let mut good = 0;
    for (name, bytes) in variants() {
        let Ok((imported, config)) = resolve(directory.path(), &bytes) else { continue };
        let toml = imported.to_toml().unwrap();
        let again = RawConfig::parse(&toml, &directory.path().join("elsewhere/trigsync.toml"))
            .and_then(|raw| raw.resolve(&Overrides::default(), &directory.path().join("state")))
            .unwrap_or_else(|error| panic!("{name}: {error}\n{toml}"));
        assert_eq!(again, config, "{name}\n{toml}");
        good += 1;
    }
    assert!(good > 25, "{good}");
}

#[test]
fn the_toml_says_where_each_value_comes_from() {
    let directory = fixture();
    let text =
        edited(&[FILTER, AUTH, ("-artuz", "-az --bwlimit=10m --chmod=D755 -x"), ("<timeout start=\"false\"", "<timeout start=\"true\"")]);
    let (imported, _) = resolve(directory.path(), text.as_bytes()).unwrap();
    let toml = imported.to_toml().unwrap().replace(directory.path().to_str().unwrap(), "$DIR");
    if std::env::var_os("TRIGSYNC_RENEW").is_some() {
        fs::write("tests/sersync/imported.toml", &toml).unwrap();
    }
    assert_eq!(toml, fs::read_to_string("tests/sersync/imported.toml").unwrap());
}

#[test]
fn content_decides_what_a_file_is() {
    let directory = fixture();
    let here = |text: &str| text.replace("$DIR", directory.path().to_str().unwrap());
    let read = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, here(text)).unwrap();
        RawConfig::read(&file).map_err(|error| error.to_string())
    };
    let xml = read("a.toml", SHIPPED).unwrap();
    assert_eq!(xml.warnings().len(), 1, "{:?}", xml.warnings());
    let toml = read("a.xml", "[[sync]]\nsource = \"$DIR/www\"\ntargets = [\"$DIR/mirror\"]\n").unwrap();
    assert!(toml.warnings().is_empty());
    for (bytes, expected) in
        [(&b"\xef\xbb\xbf \n<"[..], true), (b"\xff\xfe<\0h\0", true), (b"", false), (b"# <head>", false), (b"\xef\xbb\xbf", false)]
    {
        assert_eq!(sersync::is_xml(bytes), expected, "{bytes:?}");
    }
    let error = RawConfig::parse_bytes(b"a = 1\nb = \"\xff\"\n", Path::new("x.toml")).unwrap_err().to_string();
    assert_eq!(error, "x.toml:2: is not TOML: it holds bytes that are not UTF-8");
    let error = trigsync::config::import(&directory.path().join("a.xml")).unwrap_err().to_string();
    assert!(
        error.contains("a.xml:1: is not Lua: ") && error.ends_with("(name lsyncd's configuration, or sersync's confxml.xml)"),
        "{error}"
    );
    assert!(RawConfig::read(Path::new("/dev/zero")).unwrap_err().to_string().contains("is larger than"));
}

#[test]
fn another_process_resolves_the_same_from_json() {
    let directory = fixture();
    let (imported, config) = resolve(directory.path(), SHIPPED.as_bytes()).unwrap();
    let sent: RawConfig = serde_json::from_str(&serde_json::to_string(&imported.raw).unwrap()).unwrap();
    assert_eq!(sent, imported.raw);
    assert_eq!(sent.resolve(&Overrides::default(), &directory.path().join("state")).unwrap(), config);
}

#[test]
fn overrides_hold_for_xml_too() {
    let directory = fixture();
    let raw = sersync::parse(&bytes_in(directory.path(), SHIPPED.as_bytes()), &directory.path().join("confxml.xml")).unwrap().raw;
    let overrides = Overrides { exclude: vec!["*.tmp".into()], connections: Some(3), ..Overrides::default() };
    let config = raw.resolve(&overrides, &directory.path().join("state")).unwrap();
    assert_eq!((config.syncs[0].filter.patterns(), config.syncs[0].targets[0].connections.get()), (&["*.tmp".to_owned()][..], 3));
}

/// Nested, wide, long and self-referring input ends in an error, soon.
#[test]
fn hostile_input_ends_in_an_error() {
    let many = |text: &str, times: usize| text.repeat(times);
    let bomb = "<!DOCTYPE head [<!ENTITY a \"xxxxxxxx\"><!ENTITY b \"&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;\">]><head version=\"&c;\"/>";
    let excludes = |expression: &str| excluding(&vec![expression; 2000]);
    for (name, text, expected) in [
        ("deep", many("<a>", 300_000), "deeper than 32 levels"),
        ("deep within a head", "<head>".to_owned() + &many("<head>", 100_000), "deeper than 32 levels"),
        ("wide", "<head>".to_owned() + &many("<a/>", 200_000), "more than 5000 elements"),
        (
            "many attributes",
            "<head ".to_owned() + &(0..90_000).map(|n| format!("a{n}=\"\" ")).collect::<String>() + "/>",
            "more than 5000 elements",
        ),
        ("huge", " ".repeat(8) + "<head>" + &many("x", 20 << 20), "bytes, which no confxml.xml has"),
        ("a bomb", bomb.to_owned(), "`&c;` is not known"),
        ("a comment without end", "<!--".to_owned() + &many("-", 900_000), "is not XML"),
        ("quotes without end", "<head a=\"".to_owned() + &many("'", 900_000), "is not XML"),
        ("expressions that fan out", excludes("(.*)a(.*)b(.*)c(.*)d(.*)e(.*)f(.*)"), "more than 64 alternatives"),
        ("nested groups", excludes(&many("(", 500)), "is no regular expression"),
        ("nested counts", excludes("((((a{16}){16}){16}){16}){16}"), "more than 64 alternatives"),
        ("a NUL byte", least("<remote ip=\"&#0;\" name=\"x\"/>"), "remote@ip"),
    ] {
        let began = Instant::now();
        let error = sersync::parse(text.as_bytes(), Path::new("x")).expect_err(name).to_string();
        assert!(error.contains(expected) && error.len() < 2000, "{name}: {error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{name} took {:?}", began.elapsed());
    }
    let began = Instant::now();
    assert!(sersync::parse(excludes("(.*)a(.*)b(.*)c(.*)d").as_bytes(), Path::new("x")).is_ok());
    assert!(began.elapsed() < Duration::from_secs(60), "took {:?}", began.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// A shipped file with bytes of it overwritten is read or refused, and nothing else.
    #[test]
    fn damaged_files_do_not_crash(damage in prop::collection::vec((0..SHIPPED.len(), any::<u8>()), 1..8), cut in 0..SHIPPED.len()) {
        let mut bytes = SHIPPED.as_bytes().to_vec();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        bytes.truncate(SHIPPED.len() - cut / 8);
        for parsed in [sersync::parse(&bytes, Path::new("x")), sersync::parse_plugin(&bytes, Path::new("x"), "socket")] {
            match parsed {
                Ok(imported) => drop(imported.to_toml()),
                Err(error) => prop_assert!(!error.to_string().contains('\n'), "{}", error),
            }
        }
    }
}
