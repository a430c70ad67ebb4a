local list = {
    ["$DIR/deep/www"] = "web1",
    ["$DIR/www"] = "web2",
}
local sources = {}
for source in pairs(list) do
    table.insert(sources, source)
end
table.sort(sources)
for _, source in ipairs(sources) do
    sync { default.rsyncssh, source = source, host = list[source], targetdir = "/srv" .. source:match("/[^/]+$") }
end
sync { default.rsync, source = "$DIR/www", target = "web2:/srv/www" }
