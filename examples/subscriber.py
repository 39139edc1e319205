"""Print frames without the collector's package: subscriber.py [ENDPOINT [COUNT [PREFIX]]]"""

import sys

import msgpack
import zmq

endpoint, count, prefix = (*sys.argv[1:], *("tcp://127.0.0.1:5590", "10", "")[len(sys.argv) - 1 :])
socket = zmq.Context().socket(zmq.SUB)
socket.connect(endpoint)
socket.setsockopt_string(zmq.SUBSCRIBE, prefix)
left = int(count)
while left:
    topic, body = socket.recv_multipart()
    version, kind, *header, event = msgpack.unpackb(body)
    assert version == 1, f"frame version {version}"
    if kind == 1:  # book: height, sequence, ts_event
        line = event[1], event[2], event[3]
    elif kind == 2:  # trades: height, how many, ts_event
        line = event[1], len(event[5]), event[2]
    elif kind == 3:  # gap: first height, gap_id, ts
        line = event[4], event[1], event[6]
    else:  # a channel that this reader does not know
        continue
    print(topic.decode(), *line, flush=True)
    left -= 1
