-- Requests of many hosts for wrk: arguments are the method, a file of API keys (one a line), and a file with the body.
local requests, turn, failed = {}, 0, 0
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  local file = assert(io.open(arguments[3]))
  local body = file:read("*a")
  file:close()
  if body == "" then body = nil end
  for key in io.lines(arguments[2]) do
    local headers = { ["X-API-Key"] = key, ["Content-Type"] = "application/json" }
    table.insert(requests, wrk.format(arguments[1], nil, headers, body))
  end
  failed_here = 0
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function response(status)
  if status ~= 200 then failed_here = failed_here + 1 end
end

function done(summary, latency)
  for _, thread in ipairs(threads) do failed = failed + thread:get("failed_here") end
  local errors = summary.errors
  failed = failed + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"failed":%d,"p50":%f,"p99":%f}\n',
    summary.requests, summary.duration / 1e6, failed,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
