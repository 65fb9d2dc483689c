-- Asks for the paths of a file in turn, and prints one line of JSON at the end.
local requests = {}
local at = 0

function init(arguments)
    for path in io.lines(arguments[1]) do
        requests[#requests + 1] = wrk.format("GET", path)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format(
        '{"seconds":%.6f,"requests":%d,"errors":%d,"bytes":%d,"p50_us":%d,"p99_us":%d}\n',
        summary.duration / 1e6, summary.requests,
        errors.status + errors.connect + errors.read + errors.write + errors.timeout,
        summary.bytes, latency:percentile(50), latency:percentile(99)))
end
