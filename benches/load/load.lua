-- What wrk does and tells: as many requests per second as RATE says, or each at the end of the one before it.

local rate = tonumber(os.getenv("RATE") or "0")

-- wrk asks for a delay before each request if there is such a function, and costs more then.
if rate > 0 then
    local ffi = require("ffi")
    ffi.cdef("typedef struct { long s; long ns; } load_time; int clock_gettime(int clock, load_time *now);")
    local time = ffi.new("load_time")
    local slot

    -- In milliseconds, which is as exact as wrk waits. The requests of all connections take turns on one timetable,
    -- so that the rate is met whatever the answers take; who is late by more than this catches up no further.
    function delay()
        ffi.C.clock_gettime(1, time)
        local now = tonumber(time.s) * 1000 + tonumber(time.ns) / 1e6
        slot = math.max((slot or now) + 1000 / rate, now - 20)
        return math.max(0, math.floor(slot - now + 0.5))
    end
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    local line = 'DONE {"requests": %d, "micros": %d, "p50": %d, "p99": %d, "failed": %d}'
    print(line:format(summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed))
end
