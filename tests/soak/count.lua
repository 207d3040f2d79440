-- Counts the answers by status, and those with 200 that are not the server's.
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    length = tonumber(args[1])
    ok, wrong, s429, s502, s503, s504, others = 0, 0, 0, 0, 0, 0, 0
end

function response(status, headers, body)
    if status == 200 then
        ok = ok + 1
        if #body ~= length or body:find("[^m]") then
            wrong = wrong + 1
        end
    elseif status == 429 then
        s429 = s429 + 1
    elseif status == 502 then
        s502 = s502 + 1
    elseif status == 503 then
        s503 = s503 + 1
    elseif status == 504 then
        s504 = s504 + 1
    else
        others = others + 1
    end
end

function done(summary)
    local text = ""
    for _, name in ipairs({ "ok", "wrong", "s429", "s502", "s503", "s504", "others" }) do
        local sum = 0
        for _, thread in ipairs(threads) do
            sum = sum + thread:get(name)
        end
        text = text .. string.format('"%s": %d, ', name, sum)
    end
    local errors = summary.errors
    print(string.format('RESULT {%s"connect": %d, "read": %d, "write": %d, "timeout": %d}',
        text, errors.connect, errors.read, errors.write, errors.timeout))
end
