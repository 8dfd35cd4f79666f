// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import LinuxIO
import Testing

@testable import vfio_ferry

extension LabTests {
  /// Streams that were cut or damaged, against a real device: refused, and the device is what it was.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct DamageTests {
    /// Runs a command in this process, as `main` would: a thousand processes would take the lab ten minutes.
    private func failure(_ command: some FerryCommand) -> CommandFailure? {
      do {
        try command.execute(Console(out: { _ in }, err: { _ in }, showsProgress: false))
        return nil
      } catch {
        return error as? CommandFailure
      }
    }

    /// Where each frame of a stream begins.
    private func offsets(_ folder: String) throws -> [Int] {
      let listed = try Lab.ferry(["inspect", "--frames", "\(folder)/good"])
      return listed.out.split(separator: "\n").compactMap { line -> Int? in
        guard line.hasPrefix("frame "), let at = line.split(separator: " ").dropFirst(3).first else { return nil }
        return Int(at.dropLast())
      }
    }

    /// How a message names the frame that a byte belongs to.
    private func place(of byte: Int, _ offsets: [Int]) -> String {
      offsets.lastIndex { $0 <= byte }.map { "frame \($0)" } ?? "the preamble"
    }

    private func stream(_ folder: String) throws -> [UInt8] {
      try DeviceHolder.mark(Lab.mtty[0], [0x15, 0x26])
      #expect(try Lab.ferry(["save", Lab.mtty[0], Lab.mtty[1], "-o", "\(folder)/good"]).status == 0)
      return [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(folder)/good")))
    }

    /// The commands, parsed once: parsing is what takes longest here.
    private func commands(_ folder: String) throws -> [any FerryCommand] {
      [
        try InspectCommand.parse(["\(folder)/bad"]),
        try LoadCommand.parse(["\(folder)/bad", Lab.mtty[2], Lab.mtty[3]]),
      ]
    }

    /// - Parameter place: how the message has to name the place that is damaged.
    private func refuse(
      _ bytes: [UInt8], _ folder: String, _ commands: [any FerryCommand], at place: String, _ what: String
    ) throws {
      let file = try Descriptor.open("\(folder)/bad", O_WRONLY | O_CREAT | O_TRUNC)
      try file.writeAll(bytes.span, at: 0)
      for command in commands {
        let found = failure(command)
        let message = found?.message ?? ""
        guard found?.status == .failed, message.contains("/bad: \(place) ") else {
          Issue.record("\(what): \(type(of: command)) said \(String(describing: found))")
          continue
        }
      }
    }

    private func inFolder(_ body: (String) throws -> Void) throws {
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      let held = try [Lab.mtty[2], Lab.mtty[3]].map { try DeviceHolder($0) }
      for holder in held { holder.mark([0xc3, 0x3c]) }
      try body(folder.path)
      // A file is checked whole before a device is touched: not even opened, which these holders would have made fail.
      for holder in held {
        #expect(holder.marks() == [0xc3, 0x3c])
        #expect(holder.ask("state").hasSuffix("running"))
        holder.quit()
      }
    }

    @Test("a file cut at any frame boundary, or in the middle of a frame, is refused by inspect and load")
    func cuts() throws {
      try inFolder { folder in
        let good = try stream(folder)
        let offsets = try offsets(folder)
        #expect(offsets.count >= 10)
        let commands = try commands(folder)
        let ends = offsets.dropFirst() + [good.count]
        for (begin, end) in zip(offsets, ends) {
          let middle = (begin + end) / 2
          let place = place(of: begin, offsets)
          try refuse(Array(good[..<begin]), folder, commands, at: place, "cut at \(begin)")
          try refuse(Array(good[..<middle]), folder, commands, at: place, "cut at \(middle)")
        }
        try refuse([], folder, commands, at: "the preamble", "empty")
        try refuse(good + [0], folder, commands, at: "after the end frame", "one byte too many")
      }
    }

    @Test("a file with one bit flipped, at each of 1,000 positions, is refused by inspect and load")
    func flips() throws {
      try inFolder { folder in
        let good = try stream(folder)
        let commands = try commands(folder)
        let offsets = try offsets(folder)
        let bits = good.count * 8
        for number in 0..<min(1000, bits) {
          let bit = bits <= 1000 ? number : number * bits / 1000
          var bad = good
          bad[bit / 8] ^= 1 << (bit % 8)
          try refuse(bad, folder, commands, at: place(of: bit / 8, offsets), "bit \(bit)")
        }
      }
    }

    @Test("inspect and load say so with exit status 1 as processes, too")
    func processes() throws {
      try inFolder { folder in
        let good = try stream(folder)
        // Which frame that is depends on which device was read first.
        let place = place(of: 300, try offsets(folder))
        try Data(good[..<300]).write(to: URL(fileURLWithPath: "\(folder)/bad"))
        for arguments in [
          ["inspect", "\(folder)/bad"], ["load", "\(folder)/bad", Lab.mtty[2], Lab.mtty[3], "--", "true"],
        ] {
          let ended = try Lab.ferry(arguments)
          #expect(ended.status == 1)
          #expect(ended.err.contains("\(place) ") && ended.err.contains("incomplete"), "\(ended.err)")
        }
      }
    }

    @Test("a channel that breaks off resets the devices that were being filled, and says so")
    func brokenChannel() throws {
      let folder = try Lab.temporaryFolder().path
      let good = try stream(folder)
      try DeviceHolder.mark(Lab.mtty[4], [0x99, 0x99])
      try Data(good[..<(good.count - 60)]).write(to: URL(fileURLWithPath: "\(folder)/bad"))
      let fifo = "\(folder)/fifo"
      try #require(unsafe mkfifo(fifo, 0o600) == 0)
      let writer = Process()
      writer.executableURL = URL(fileURLWithPath: "/bin/sh")
      // Before the devices are in RESUMING there is nothing to reset: the channel breaks once both are.
      let states = [Lab.mtty[4], Lab.mtty[5]].map { "/sys/kernel/debug/vfio/\($0)/migration/state" }
      writer.arguments = [
        "-c",
        """
        exec >'\(fifo)'; cat '\(folder)/bad'
        until [ "$(cat \(states[0])) $(cat \(states[1]))" = "RESUMING RESUMING" ]; do :; done
        """,
      ]
      try writer.run()
      let ended = try Lab.ferry(["load", fifo, Lab.mtty[4], Lab.mtty[5], "--", "true"])
      writer.waitUntilExit()
      #expect(ended.status == 1)
      #expect(ended.err.contains("\(Lab.mtty[4]) is in running and was reset, so it is empty"), "\(ended.err)")
      #expect(try Lab.debugState(Lab.mtty[4]) == "RUNNING")
      #expect(try Lab.debugState(Lab.mtty[5]) == "RUNNING")
    }

    @Test("a stream that does not fit the devices is refused with exit status 3 before they are opened")
    func mismatch() throws {
      try inFolder { folder in
        _ = try stream(folder)
        let ended = try Lab.ferry(["load", "\(folder)/good", Lab.mtty[2], "--", "true"])
        #expect(ended.status == 3)
        #expect(ended.err.contains("holds 2 devices"), "\(ended.err)")
      }
    }
  }
}
