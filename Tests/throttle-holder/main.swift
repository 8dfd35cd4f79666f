// SPDX-License-Identifier: Apache-2.0
// throttle-holder FOLDER police INTERFACE | FOLDER devlink-rate BUS DEVICE PORT
//
// A process that throttles, for tests that kill it: says "ready" and does what lines on its standard input say, each with
// one line of answer. It keeps its record in FOLDER, or with "-" where vfio-ferry looks for it.
//
//   limit N    ok: N bytes a second
//   restore    ok
//   quit       ok, and it ends

import Glibc
import Migration
import Topology

func say(_ text: String) {
  print(text)
  fflush(nil)
}

let arguments = CommandLine.arguments
guard arguments.count >= 4 else { exit(2) }
let folder = arguments[1] == "-" ? ThrottleFolder() : ThrottleFolder(path: arguments[1])
let limiter: any RateLimiter
if arguments[2] == "police" {
  let interface = NetworkInterface(name: arguments[3], index: Int32(unsafe if_nametoindex(arguments[3])))
  limiter = PoliceFilter(device: "holder", places: [.representor(interface)], folder: folder)
} else {
  let port = DevlinkPort(bus: arguments[3], device: arguments[4], number: UInt32(arguments[5])!)
  limiter = DevlinkRate(device: "holder", port: port, folder: folder)
}
say("ready")
while let line = readLine() {
  let words = line.split(separator: " ")
  do {
    switch words.first {
    case "limit": try limiter.limit(to: UInt64(words[1])!)
    case "restore": try limiter.restore()
    case "quit":
      say("ok")
      exit(0)
    default:
      say("what?")
      continue
    }
    say("ok")
  } catch {
    say("\(error)")
  }
}
