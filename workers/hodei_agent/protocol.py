"""What agent and platform agree on: version, limits and words of `docs/reference/agent-protocol.md`."""

PROTOCOL_VERSION = 1
AGENT_VERSION = "0.1.0"

FRAMES_CONTENT_TYPE = "application/x-hodei-frames"
MAX_FRAMES_BODY_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024

STDOUT = 1
STDERR = 2
REMARK = 3
STREAM_NAMES = {STDOUT: "stdout", STDERR: "stderr", REMARK: "stderr"}
