// SPDX-License-Identifier: Apache-2.0
import Foundation

/// What `save -j` and `load -j` print when they fail.
struct FailureReport: Decodable {
  struct Device: Decodable {
    let name: String
    let state: String?
    let reset: Bool
    let hung: Bool
  }

  let error: String
  let devices: [Device]

  init(_ json: String) throws { self = try JSONDecoder().decode(Self.self, from: Data(json.utf8)) }
}
