-- One source, several hosts, and one that gets something else.
settings { maxProcesses = 4 }

local servers = { "web1", "web2", "10.0.0.3" }
local base = "$DIR"

local function rsync_options(limit)
    return { archive = true, bwlimit = limit, rsh = "/usr/bin/ssh -p 22 -i " .. base .. "/id_ed25519 -o BatchMode=yes" }
end

for number, server in ipairs(servers) do
    sync {
        default.rsync,
        source = base .. "/www",
        target = string.format("deploy@%s:/srv/www", server),
        exclude = { ".git/" },
        rsync = rsync_options(number * 100),
    }
end

sync { default.rsync, source = base .. "/www", target = "backup:www", rsync = { archive = true, owner = false } }
sync { default.rsync, source = base .. "/other", target = "backup:~/other/", rsync = { archive = true } }
