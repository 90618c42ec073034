-- Names of queues: FAMILY[.LANE][:MODEL | :@WORKER]. graycat/queue/names.py parses the same; a test compares the two.

-- Returns the family, the lane ('' for interactive), and what follows with its colon: a model or a worker, which may
-- have any characters in their names.
local function parse_queue(queue)
  local base, target = string.match(queue, '^([^:]*)(.*)$')
  local family, lane = string.match(base, '^([^.]*)%.?(.*)$')
  return family, lane, target
end

-- Returns the shared queue that a queue of a model or worker belongs to.
local function base_queue(queue) return string.match(queue, '^[^:]*') end

-- In a queue that is shared, API tokens take turns. What is asked often and at once answered goes without.
local function is_fair(queue)
  local _, lane = parse_queue(queue)
  return lane ~= 'quick'
end
