-- Load for wrk: GET of a target with 9 header fields. Called with `-- KINDS TARGET`: so many different
-- requests are made beforehand and sent in turn; {user} in the target is the request's user.

local made, at = {}, 0

-- An odd factor modulo 2^32 gives each i of the cycle another word.
local function word(i, factor) return string.format("%08x", (i * factor) % 4294967296) end

function init(args)
  for i = 1, tonumber(args[1]) do
    local user = "user-" .. word(i, 40503)
    wrk.headers = {
      ["Host"] = "bench.example",
      ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
      ["Accept"] = "application/json, text/plain, */*",
      ["Accept-Encoding"] = "gzip, deflate, br",
      ["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.7",
      ["X-User-Id"] = user,
      ["X-Region"] = "eu-west",
      ["X-Client"] = "web",
      ["traceparent"] = "00-" .. word(i, 40503) .. word(i, 30011) .. word(i, 20011) .. word(i, 65537)
        .. "-" .. word(i, 10007) .. word(i, 50021) .. "-01",
    }
    made[i] = wrk.format("GET", (args[2]:gsub("{user}", user)))
  end
end

function request()
  at = at % #made + 1
  return made[at]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("\nMEASURED %d %d %d %d %d %d\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
