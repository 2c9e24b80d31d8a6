"""Event streams in Redis, and the reading of them by any number of followers.

The way of an event, from the process that writes it to the clients that see it:

    a record's owner --XADD--> stream in Redis --PUBLISH (the entry itself)--> every process with a follower

    subscription         one connection in a process; receives the channels of all topics followed there
      -> bus             wakes the topic's reader; rereads a stream whose message was lost
      -> reader          one for a topic in a process: buffers the topic's end, whatever the number of followers
           lost_topics       finds topics whose record Redis has lost, for their followers to be told
      -> topic_stream    one for a follower: what lies behind its position, as bytes, in chunks
           log_store         supplies the entries once a build has ended and its stream is gone
           queue_positions   supplies the build's position while it waits for a slot
           event_format      writes an event as bytes, once for all followers
      -> gateway.streaming.launch_stream     a launch's own events, with its build's and its server's spliced in
      -> gateway.streaming.event_stream_response, send_scheduler     one send for a client and tick; keepalives

`entries` and `positions` are what all of them pass on: a batch of events, and how far a follower has got. A process
that owns a record hands its own entries to its reader directly, so that its followers need no subscription.
"""
