// SPDX-License-Identifier: Apache-2.0
// throttle-holder FOLDER police INTERFACE | FOLDER devlink-rate BUS DEVICE PORT | FOLDER text NAME
//
// A process that throttles, for tests that kill it: says "ready" and does what lines on its standard input say, each with
// one line of answer. It keeps its record in FOLDER, or with "-" where vfio-ferry looks for it.
//
//   limit N    ok: N bytes a second
//   restore    ok
//   clean N    what a process that is gone has left is put back, then N bytes a second: a line for each, and ok or why not
//   quit       ok, and it ends
//
// With "text" it throttles nothing, and holds a text of that name as limiters hold their records:
//
//   take       "cleaned TEXT" where one was there that nobody held; then "held", or why not. Its own text is its number
//   let go     ok

import Glibc
import LinuxIO
import Migration
import Topology

func say(_ text: String) {
  print(text)
  fflush(nil)
}

let arguments = CommandLine.arguments
guard arguments.count >= 4 else { exit(2) }
let folder = arguments[1] == "-" ? ThrottleFolder() : ThrottleFolder(path: arguments[1])

/// Takes and lets go of a text.
func holdText(_ folder: PrivateFolder, _ name: String) throws {
  var held: HeldText?
  say("ready")
  while let line = readLine() {
    if line == "let go" {
      held?.remove()
      held = nil
      say("ok")
      continue
    }
    guard line == "take" else { return }
    var answer: [String] = []
    if let left = try folder.claim(name) {
      answer.append("cleaned \(String(decoding: try left.read(maximum: 100), as: UTF8.self))")
      left.remove()
    }
    do {
      held = try folder.add(name, "\(getpid())", temporary: "\(name).\(getpid())")
      answer.append("held")
    } catch {
      answer.append(error.name)
    }
    say(answer.joined(separator: ", "))
  }
}

if arguments[2] == "text" {
  try holdText(PrivateFolder(path: arguments[1]), arguments[3])
  exit(0)
}
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
    case "clean":
      var lines = folder.putBackLeftovers()
      do {
        try limiter.limit(to: UInt64(words[1])!)
        lines.append("ok")
      } catch {
        lines.append("\(error)")
      }
      say(lines.joined(separator: " | "))
      continue
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
