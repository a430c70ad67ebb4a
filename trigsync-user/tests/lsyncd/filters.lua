sync {
    default.rsync,
    source = "$DIR/www",
    target = "$DIR/mirror",
    exclude = { "core", "a/b", "/proc/**", "**/node_modules", "logs/***", "core" },
    filter = { "+ /app/***", "+ *.html", "- /*" },
    rsync = { archive = true, _extra = { "--exclude", "*~" } },
}
sync { default.rsync, source = "$DIR/other", target = "$DIR/other mirror", filterFrom = "filter.txt" }
