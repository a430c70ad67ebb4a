//! What people write into a confxml.xml, by name, for the table and for what else has to hold for each.

/// As sersync ships it, but for what it names.
pub const SHIPPED: &str = include_str!("shipped.xml");

/// The shipped file with pieces of it exchanged. Each must be there.
pub fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(SHIPPED.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

pub fn least(inner: &str) -> String {
    format!("<head><sersync><localpath watch=\"$DIR/www\">{inner}</localpath></sersync></head>")
}

const REMOTE: &str = "<remote ip=\"127.0.0.1\" name=\"tongbu1\"/>";
pub const AUTH: (&str, &str) = ("<auth start=\"false\"", "<auth start=\"true\"");
const SSH: (&str, &str) = ("<ssh start=\"false\"", "<ssh start=\"true\"");
pub const FILTER: (&str, &str) = ("<filter start=\"false\">\n\t<exclude", "<filter start=\"true\">\n\t<exclude");
const CRONTAB: (&str, &str) = ("<crontab start=\"false\"", "<crontab start=\"true\"");
const CRONTAB_FILTER: (&str, &str) = ("<crontabfilter start=\"false\"", "<crontabfilter start=\"true\"");
const PATH: (&str, &str) = ("name=\"tongbu1\"", "name=\"/data/www\"");

fn params(value: &str) -> String {
    edited(&[("-artuz", value)])
}

pub fn excluding(expressions: &[&str]) -> String {
    let excludes: String = expressions.iter().map(|text| format!("<exclude expression=\"{text}\"/>")).collect();
    least(REMOTE).replace("<head>", &format!("<head><filter start=\"true\">{excludes}</filter>"))
}

fn plugin(name: &str) -> String {
    edited(&[("<plugin start=\"false\" name=\"command\"/>", &format!("<plugin start=\"true\" name=\"{name}\"/>"))])
}

/// By name, in the order of the table.
pub fn variants() -> Vec<(&'static str, Vec<u8>)> {
    let gbk = |text: &str| encoding_rs::GBK.encode(text).0.into_owned();
    let latin = |text: &str| encoding_rs::WINDOWS_1252.encode(text).0.into_owned();
    let utf_16 = |text: &str| [vec![0xff, 0xfe], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    let chinese = edited(&[("<!-- port=874 -->", "<!-- 端口 -->"), ("$DIR/www\">", "$DIR/数据\">")]);
    let mut variants: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut add = |name, text: String| variants.push((name, text.into_bytes()));
    add("as shipped", SHIPPED.into());
    add(
        "the course's six edits",
        edited(&[
            ("-artuz", "-az"),
            AUTH,
            ("users=\"root\"", "users=\"rsync_backup\""),
            ("127.0.0.1", "172.16.1.41"),
            ("tongbu1", "nfsbackup"),
            ("<timeout start=\"false\"", "<timeout start=\"true\""),
        ]),
    );
    add("the least that can be written", least(REMOTE));
    add(
        "no version, no host, no timeout, no fileSystem, no inotify",
        edited(&[
            (" version=\"2.5\"", ""),
            ("<host hostip=\"localhost\" port=\"8008\"></host>", ""),
            ("<timeout start=\"false\" time=\"100\"/>", ""),
            ("<fileSystem xfs=\"false\"/>", ""),
            ("<createFolder start=\"true\"/>", ""),
        ]),
    );
    add("attributes left out", edited(&[(" start=\"false\" time=\"100\"", ""), ("<delete start=\"true\"/>", "<delete/>")]));
    add("several remotes", least(&(REMOTE.to_owned() + "<remote ip=\"::1\" name=\"a/deep/path\"/><remote ip=\"backup\" name=\"m\"/>")));
    add("the same remote twice", least(&(REMOTE.to_owned() + REMOTE)));
    add(
        "a port and a timeout",
        edited(&[
            ("<userDefinedPort start=\"false\"", "<userDefinedPort start=\"true\""),
            ("<timeout start=\"false\"", "<timeout start=\"true\""),
        ]),
    );
    add("a timeout of nothing", edited(&[("<timeout start=\"false\" time=\"100\"", "<timeout start=\"true\" time=\"0\"")]));
    add("ssh", edited(&[SSH, PATH]));
    add(
        "ssh with a user, a password file and a port",
        edited(&[SSH, PATH, AUTH, ("<userDefinedPort start=\"false\"", "<userDefinedPort start=\"true\"")]),
    );
    add("a password file in the watched directory", edited(&[AUTH, ("$DIR/rsync.pas", "relative.pas")]));
    add("filter", edited(&[FILTER]));
    add("filter and crontab without its own", edited(&[FILTER, CRONTAB]));
    add("a crontab at no time", edited(&[CRONTAB, ("schedule=\"600\"", "schedule=\"0\"")]));
    add("filter and crontab that spares more", edited(&[FILTER, CRONTAB, CRONTAB_FILTER]));
    add(
        "crontab that spares the same",
        edited(&[FILTER, CRONTAB, CRONTAB_FILTER, ("(.*)\\.gz", "(.*)\\.php"), ("^static/*", "(.*)info/*"), ("\"info/*", "\"*info")]),
    );
    add("crontab alone", edited(&[CRONTAB]));
    add("a crontab filter that is off with its crontab", edited(&[CRONTAB_FILTER]));
    add("an expression that cannot be a pattern", excluding(&["a+b"]));
    add("an expression that is none", excluding(&["*.php"]));
    add("an expression that never matches", excluding(&["^/cache"]));
    add("expressions of all kinds", excluding(&["(.*)/cache/(.*)", "^tmp/.*", ".+~", "(.*)\\.(jpg|png)$", "a &amp; b", "!x"]));
    add("common parameters that fight the batches", params("-avzP --delete --max-size=1g --bwlimit=10m --exclude=a/b -x --numeric-ids"));
    add("common parameters without -a", params("-rtz"));
    add("common parameters that would do nothing", params("-avn"));
    add("common parameters for a shell", params("-az &gt; /tmp/log"));
    add(
        "comments in odd places",
        edited(&[
            ("<rsync>", "<!-- -- --><rsync><!-- > -->text # text"),
            ("<head version", "<!-- first --><head version"),
            ("</head>", "</head><!-- last -->"),
        ]),
    );
    add(
        "other cases of names",
        edited(&[
            ("<localpath watch=\"$DIR/www\">", "<localPath Watch=\"$DIR/www\">"),
            ("<ssh start", "<SSH START"),
            ("</localpath>\n\t<rsync>", "</localPath>\n\t<rsync>"),
        ]),
    );
    add(
        "names that sersync does not know",
        edited(&[
            ("<ssh start", "<shh start=\"true\"/><ssh mode=\"x\" start"),
            ("<commonParams params=\"-artuz\"/>", "<commonParams parms=\"-az\"/>"),
            ("<debug start=\"false\"", "<debug start=\"True\""),
        ]),
    );
    add("elements twice", edited(&[("<ssh start=\"false\"/>", "<ssh start=\"false\"/><ssh start=\"true\"/>")]));
    add(
        "all switches of inotify the other way, but for deletions",
        edited(&[
            ("<createFolder start=\"true\"", "<createFolder start=\"false\""),
            ("<createFile start=\"false\"", "<createFile start=\"true\""),
            ("<closeWrite start=\"true\"", "<closeWrite start=\"false\""),
            ("<moveTo start=\"true\"", "<moveTo start=\"false\""),
            ("<attrib start=\"false\"", "<attrib start=\"true\""),
        ]),
    );
    add("no deletions", edited(&[("<delete start=\"true\"", "<delete start=\"false\"")]));
    add("what is moved away stays", edited(&[("<moveFrom start=\"true\"", "<moveFrom start=\"false\"")]));
    add(
        "debug, xfs and a fail log of its own",
        edited(&[
            ("<debug start=\"false\"", "<debug start=\"true\""),
            ("xfs=\"false\"", "xfs=\"true\""),
            ("/tmp/rsync_fail", "/var/log/rsync_fail"),
            ("timeToExecute=\"60\"", "timeToExecute=\"5\""),
        ]),
    );
    const FAIL_LOG: &str = "/tmp/rsync_fail_log.sh";
    add("a fail log that is relative", edited(&[(FAIL_LOG, "fail_log.sh")]));
    add("no fail log", edited(&[(FAIL_LOG, "")]));
    add("a fail log in what is mirrored", edited(&[(FAIL_LOG, "$DIR/www/fail_log.sh")]));
    add("a fail log that is never run", edited(&[("timeToExecute=\"60\"", "timeToExecute=\"0\"")]));
    for name in ["command", "refreshCDN", "http", "socket"] {
        add(name, plugin(name));
    }
    let with_plugin = |name: &str, edits: &[(&str, &str)]| {
        edits.iter().fold(plugin(name), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        })
    };
    let command = |prefix: &str, suffix: &str| {
        with_plugin("command", &[("prefix=\"/bin/sh\" suffix=\"\"", &format!("prefix=\"{prefix}\" suffix=\"{suffix}\""))])
    };
    const ONLY: (&str, &str) = ("<filter start=\"false\">\n\t    <include", "<filter start=\"true\">\n\t    <include");
    const OTHER: (&str, &str) = ("$DIR/other", "$DIR/www");
    add("a command with a script", command("/bin/sh /opt/tongbu/mmm.sh", "--fast 'a b'"));
    add("a script alone, which only a shell runs", command("/opt/tongbu/mmm.sh", ""));
    add("a script that says what runs it", command("$DIR/says.sh", ""));
    add("a command for a shell", command("/usr/bin/php /opt/x.php", "&gt;&gt; /tmp/log 2&gt;&amp;1"));
    add("a command with a filter", with_plugin("command", &[ONLY, ("ignoreError=\"true\"", "ignoreError=\"false\"")]));
    add("a command whose filter is no expression", with_plugin("command", &[ONLY, ("(.*)\\.sh", "*.sh")]));
    add("a command whose program is relative", command("bin/tell", ""));
    add("a command without a param", with_plugin("command", &[("<param prefix=\"/bin/sh\" suffix=\"\" ignoreError=\"true\"/>", "")]));
    add("a socket", with_plugin("socket", &[OTHER]));
    add("a socket without a port", with_plugin("socket", &[OTHER, ("port=\"8009\"", "")]));
    add("refreshCDN with its password in a file", with_plugin("refreshCDN", &[("<head version", "<!-- password --><head version")]));
    add(
        "refreshCDN with an expression",
        with_plugin("refreshCDN", &[("<head version", "<!-- password --><head version"), ("regex=\"false\"", "regex=\"true\"")]),
    );
    add("http with a URL", {
        let http =
            "<plugin name=\"http\"><localpath watch=\"$DIR/www\"><deshost url=\"example.org/hook\" port=\"80\"/></localpath></plugin>";
        plugin("http").replace("</head>", &format!("{http}</head>"))
    });
    // With sersync's option -m.
    let alone = |name: &str, edits: &[(&str, &str)]| {
        let mark = format!("<!-- -m {name} --><head version");
        let marked = [&[("<head version", &*mark)], edits].concat();
        edited(&marked)
    };
    for (title, name) in
        [("-m command", "command"), ("-m socket", "socket"), ("-m http", "http"), ("-m refreshCDN without its password", "refreshCDN")]
    {
        add(title, alone(name, &[]));
    }
    add("-m refreshCDN with its password in a file", alone("refreshCDN", &[("<head version", "<!-- password --><head version")]));
    add("-m with a name that sersync does not know", alone("commands", &[]));
    add("-m without any plugin", least("").replace("<head>", "<!-- -m command --><head>"));
    add(
        "-m with a filter, switches and options that mean nothing for it",
        alone(
            "command",
            &[
                FILTER,
                ONLY,
                CRONTAB,
                ("<delete start=\"true\"", "<delete start=\"false\""),
                ("<closeWrite start=\"true\"", "<closeWrite start=\"false\""),
                ("-artuz", "--files-from=x -n"),
                ("ip=\"127.0.0.1\"", ""),
            ],
        ),
    );
    add("-m with a command for a shell", alone("command", &[("suffix=\"\"", "suffix=\"&gt;&gt; /tmp/log\"")]));
    add("UTF-8 under another declaration", chinese.clone());
    add("a byte order mark", "\u{feff}\n".to_owned() + &edited(&[("ISO-8859-1", "UTF-8")]));
    add("an encoding that nobody knows", edited(&[("ISO-8859-1", "klingon")]));
    add("an entity of its own", edited(&[("<head version", "<!DOCTYPE head [<!ENTITY a \"b\">]><head version"), ("-artuz", "-a&a;")]));
    add("a lone ampersand", edited(&[("$DIR/www\">", "$DIR/a&b\">")]));
    add("an element that is not closed", edited(&[("</rsync>", "")]));
    add("a value without quotes", edited(&[("name=\"tongbu1\"", "name=tongbu1")]));
    add("no localpath", "<head><sersync></sersync></head>".into());
    add("no remote", least(""));
    add("a remote without a name", least("<remote ip=\"a\"/>"));
    add("a path without ssh", edited(&[PATH]));
    add("a host that is none", edited(&[("127.0.0.1", "-oProxyCommand=x")]));
    add("a port that is none", edited(&[("<userDefinedPort start=\"false\" port=\"874\"", "<userDefinedPort start=\"true\" port=\"x\"")]));
    add("a source that is not there", edited(&[("$DIR/www\">", "$DIR/nowhere\">")]));
    add("another XML file", "<html><body/></html>".into());
    variants.push(("GBK", gbk(&chinese.replace("ISO-8859-1", "GBK"))));
    variants.push((
        "GBK in a comment of a file that declares UTF-8",
        gbk(&edited(&[("ISO-8859-1", "UTF-8"), ("<!-- port=874 -->", "<!-- 端口 -->")])),
    ));
    variants.push(("GBK in a value of a file that declares UTF-8", gbk(&chinese.replace("ISO-8859-1", "UTF-8"))));
    variants.push(("ISO-8859-1", latin(&edited(&[("name=\"tongbu1\"", "name=\"café\"")]))));
    variants.push(("UTF-16", utf_16(SHIPPED)));
    variants
}
